import { route } from './route.ts';

const MAX_ANSWER_BYTES = 16 * 1024;

/** Calls that an agent answers to the snapshotter of its node, signed with the node's secret. */
export const AGENT = {
  offers: route('lazy-offers', 'GET /v1/lazy/offers', { query: ['wait'], callers: ['snapshotter'] }),
  offerAnswer: route('lazy-answer', 'POST /v1/lazy/offers/:id', {
    callers: ['snapshotter'],
    json: MAX_ANSWER_BYTES,
  }),
  complaint: route('lazy-complaint', 'POST /v1/lazy/complaints', {
    callers: ['snapshotter'],
    json: MAX_ANSWER_BYTES,
  }),
} as const;
