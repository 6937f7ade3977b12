import { CodedError } from '@sepia/base/errors';
import { AGENT } from '@sepia/cluster/api/agent';
import {
  AGENT_OF_NODE,
  LAZY_OFFERS,
  type LazyAnswer,
  type LazyComplaint,
  type LazyOffer,
} from '@sepia/cluster/api/lazy-offers';
import { to } from '@sepia/cluster/api/route';
import type { InternalClient, InternalRequest } from '@sepia/http/client';
import { AGENT_MS, OFFERS_MS } from '../deadlines.ts';

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
    const line = to(AGENT.offers, { wait: OFFERS_MS });
    const call = { ...line, headersTimeoutMs: OFFERS_MS + AGENT_MS, signal };
    const answer = LAZY_OFFERS.safeParse(await this.#json(call));
    if (answer.success) return answer.data.offers;
    throw new CodedError('PEER_HTTP', { message: 'the agent answers in a form that is not known here' });
  }

  async answer(id: string, answer: LazyAnswer): Promise<void> {
    await this.#json({ ...to(AGENT.offerAnswer, { id }), json: answer, headersTimeoutMs: AGENT_MS });
  }

  /** An index does not fit its layer. */
  async complain(complaint: LazyComplaint): Promise<void> {
    await this.#json({ ...to(AGENT.complaint), json: complaint, headersTimeoutMs: AGENT_MS });
  }

  async #json(call: Omit<InternalRequest, 'url' | 'to' | 'body'> & { json?: unknown }): Promise<unknown> {
    return await this.#client.json<unknown>({ ...call, url: this.#url, to: AGENT_OF_NODE });
  }
}
