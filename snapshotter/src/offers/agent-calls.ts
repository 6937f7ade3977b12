import { CodedError } from '@sepia/base/errors';
import {
  AGENT_OF_NODE,
  LAZY_OFFERS,
  type LazyAnswer,
  type LazyComplaint,
  type LazyOffer,
} from '@sepia/cluster/api/lazy-offers';
import type { InternalClient, InternalRequest } from '@sepia/http/client';

const WAIT_MS = 20_000;
const CALL_MS = 10_000;

/** Calls to the agent of this node, signed with the node's secret. Every call @throws what it names, `PEER_HTTP` */
export class AgentCalls {
  readonly #client: InternalClient;
  readonly #url: string;

  constructor(deps: { readonly client: InternalClient; readonly url: string }) {
    this.#client = deps.client;
    this.#url = deps.url;
  }

  /** Images that somebody pulls; none within 20 s: an empty list. */
  async offers(signal: AbortSignal): Promise<readonly LazyOffer[]> {
    const path = `/v1/lazy/offers?wait=${WAIT_MS}`;
    const call = { method: 'GET', path, headersTimeoutMs: WAIT_MS + CALL_MS, signal } as const;
    const answer = LAZY_OFFERS.safeParse(await this.#json(call));
    if (answer.success) return answer.data.offers;
    throw new CodedError('PEER_HTTP', { message: 'the agent answers in a form that is not known here' });
  }

  async answer(id: string, answer: LazyAnswer): Promise<void> {
    const path = `/v1/lazy/offers/${encodeURIComponent(id)}`;
    await this.#json({ method: 'POST', path, json: answer, headersTimeoutMs: CALL_MS });
  }

  /** An index does not fit its layer. */
  async complain(complaint: LazyComplaint): Promise<void> {
    const path = '/v1/lazy/complaints';
    await this.#json({ method: 'POST', path, json: complaint, headersTimeoutMs: CALL_MS });
  }

  async #json(call: Omit<InternalRequest, 'url' | 'to' | 'body'> & { json?: unknown }): Promise<unknown> {
    return await this.#client.json<unknown>({ ...call, url: this.#url, to: AGENT_OF_NODE });
  }
}
