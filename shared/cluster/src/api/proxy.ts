import { MAX_INDEX_BYTES } from './layer-binding.ts';
import { route } from './route.ts';

/** How a call names a repository. */
const NAME = ['upstream', 'repository'] as const;
const MAX_JOB_BYTES = 256 * 1024;

/** Calls that proxies answer to members, all signed, beside `/v2` itself; each row names who may make it. */
export const PROXY = {
  accounts: route('member-accounts', 'GET /v1/accounts', { query: ['name'], callers: ['agent'] }),
  token: route('member-token', 'POST /v1/token', { callers: ['agent'], json: 128 * 1024 }),
  revocations: route('revocations', 'POST /v1/revocations', { callers: ['origin'], json: 4 * 1024 * 1024 }),
  purge: route('purge', 'POST /v1/purge', { callers: ['proxy'], json: 1024 * 1024 }),
  status: route('status', 'GET /v1/status', { query: ['self?'], callers: ['cli', 'proxy'] }),
  conversions: route('conversions', 'GET /v1/conversions', { callers: ['accelerator', 'cli'] }),
  conversionAdd: route('conversion-add', 'POST /v1/conversions', {
    callers: ['accelerator', 'agent', 'cli'],
    json: MAX_JOB_BYTES,
  }),
  conversionTake: route('conversion-take', 'POST /v1/conversions/take', {
    callers: ['accelerator'],
    json: MAX_JOB_BYTES,
  }),
  /** `verb`: renew, finish, fail, release, cancel, retry. */
  conversionChange: route('conversion-change', 'POST /v1/conversions/:id/:verb', {
    callers: ['accelerator', 'cli'],
    json: MAX_JOB_BYTES,
  }),
  layer: route('layer', 'GET /v1/layers/:layer', {
    query: NAME,
    callers: ['accelerator', 'agent', 'cli'],
  }),
  layerBind: route('layer-bind', 'PUT /v1/layers/:layer', {
    query: NAME,
    callers: ['accelerator'],
    json: 16 * 1024,
  }),
  layerIndex: route('layer-index', 'PUT /v1/layers/:layer/index', {
    query: [...NAME, 'digest'],
    callers: ['accelerator'],
    bytes: MAX_INDEX_BYTES,
  }),
  profile: route('profile', 'GET /v1/profiles', {
    query: [...NAME, 'manifest'],
    callers: ['accelerator', 'agent'],
  }),
  profilePut: route('profile-put', 'PUT /v1/profiles', { query: NAME, callers: ['cli'], json: 128 * 1024 }),
  layerComplaint: route('layer-complaint', 'POST /v1/layers/:layer/complaints', {
    query: NAME,
    callers: ['agent'],
    json: 16 * 1024,
  }),
} as const;
