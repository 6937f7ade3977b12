import { askAll } from '@sepia/base/async/ask-many';
import { CodedError } from '@sepia/base/errors';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { PROXY } from '@sepia/cluster/api/proxy';
import { type RouteCall, to } from '@sepia/cluster/api/route';
import { TRACKER } from '@sepia/cluster/api/tracker';
import type { Cluster } from '@sepia/cluster/cluster';
import type { Member } from '@sepia/cluster/document';
import type { InternalClient } from '@sepia/http/client';
import { STATUS_KEPT_MS, STATUS_MS } from '../deadlines.ts';
import { type AskedMember, type ClusterView, clusterView } from './core/cluster-view.ts';

/** What this proxy says of itself. */
export interface OwnStatus {
  readonly id: string;
  readonly version: string;
  readonly uptimeSeconds: number;
  /** Fingerprint of the accounts, for the other proxies. */
  readonly accounts?: string;
}

/** Largest status answer read: bitfields of many peers. */
const MAX_STATUS_BYTES = 32 * 1024 * 1024;

interface StatusDeps {
  readonly cluster: Cluster;
  readonly client: InternalClient;
  readonly own: () => OwnStatus;
  readonly nowMs: () => number;
}

/** Gathers the status of all members for the page. */
export class StatusGatherer {
  readonly #deps: StatusDeps;
  #view: ClusterView | undefined;
  #running: Promise<ClusterView> | undefined;

  constructor(deps: StatusDeps) {
    this.#deps = deps;
  }

  /** A view at most {@link STATUS_KEPT_MS} old; never rejects because of a silent member. */
  async view(): Promise<ClusterView> {
    const { nowMs } = this.#deps;
    if (this.#view !== undefined && nowMs() - this.#view.atMs < STATUS_KEPT_MS) return this.#view;
    this.#running ??= this.#gather().finally(() => {
      this.#running = undefined;
    });
    return await this.#running;
  }

  async #gather(): Promise<ClusterView> {
    const { cluster, nowMs } = this.#deps;
    const members = [
      ...cluster.members('origin'),
      ...cluster.members('tracker'),
      ...cluster.members('proxy'),
    ];
    const said = await askAll(members, async (member) => await this.#ask(member));
    const asked = said.map((one) => ({
      ...factsOf(one.by),
      answer: one.type === 'answer' ? one.answer : undefined,
    }));
    this.#view = clusterView(asked, cluster.version, nowMs());
    return this.#view;
  }

  async #ask({ id, role, urls }: Member): Promise<AskedMember['answer']> {
    const own = this.#deps.own();
    if (id === own.id) return own;
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(new CodedError('TIMEOUT')), STATUS_MS);
    try {
      const call = {
        url: urls[0]!,
        to: id,
        ...statusCall(role),
        headersTimeoutMs: STATUS_MS * 3,
        signal: late.signal,
      };
      const { headers, bytes } = await this.#deps.client.bytes(call, MAX_STATUS_BYTES);
      const said = JSON.parse(bytes.toString('utf8')) as unknown;
      return { version: headers['sepia-version'], ...(said as object) };
    } finally {
      clearTimeout(timer);
    }
  }
}

function factsOf({ id, role, zone }: Member): Pick<AskedMember, 'id' | 'role' | 'zone'> {
  return { id, role, ...(zone === undefined ? {} : { zone }) };
}

function statusCall(role: Member['role']): RouteCall {
  if (role === 'proxy') return to(PROXY.status, { self: true });
  return to(role === 'tracker' ? TRACKER.status : ORIGIN_RECORDS.status);
}
