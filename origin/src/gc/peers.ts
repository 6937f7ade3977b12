import { askEvery } from '@sepia/base/async/ask-many';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { ORIGIN_GC } from '@sepia/cluster/api/origin';
import { type RouteCall, to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import type { Members } from '../cluster/members.ts';
import { GC_CONDEMN_MS, GC_HOLD_MS, GC_READY_MS, GC_SLOW_MS } from '../deadlines/members.ts';
import type { OwnPage } from '../records/core/record-merge.ts';
import type { ShardName } from '../records/own-records.ts';
import type { GcRemoved } from './core/sweep.ts';
import type { CandidatePage, OwnContent, OwnLayerIndex, OwnRecord, OwnTag } from './own-content.ts';

/** Whether an origin lets a sweep run. */
export interface GcReadiness {
  readonly clusterVersion: number;
  /** Copies that it owes to others and is not making at this moment. */
  readonly owed: number;
}

/** What an origin answers for itself; the routes of `/v1/gc` call the same. */
export interface OwnGc {
  readonly content: OwnContent;
  readonly ready: () => Promise<GcReadiness>;
  readonly condemn: (generation: string, keys: readonly string[]) => readonly string[];
  readonly release: (generation: string) => void;
  readonly bury: (generation: string, shard: ShardName, dead: Dead) => Promise<void>;
}

/** Records that a sweep takes away, each with the clock of the one that it saw: a later one stays. */
export interface Dead {
  readonly links: readonly { readonly digest: Digest; readonly atMs: number }[];
  readonly referrers: readonly { readonly subject: Digest; readonly digest: Digest; readonly atMs: number }[];
}

interface PeersDeps {
  readonly members: Pick<Members, 'selfId' | 'ids' | 'epoch' | 'placement' | 'json'>;
  readonly own: OwnGc;
}

/** The origins as the leader of a sweep asks them. Each of them must answer: silence of one ends the sweep. */
export class Peers {
  readonly #deps: PeersDeps;

  constructor(deps: PeersDeps) {
    this.#deps = deps;
  }

  get ids(): readonly string[] {
    return this.#deps.members.ids;
  }

  owners({ upstream, repository }: ShardName): readonly string[] {
    return this.#deps.members.placement(shardKey(upstream, repository)).owners;
  }

  async ready(id: string): Promise<GcReadiness> {
    if (id === this.#self) return await this.#deps.own.ready();
    return await this.#get(id, to(ORIGIN_GC.ready), GC_READY_MS);
  }

  async repositories(id: string, upstream: string, after: string | undefined): Promise<OwnPage<string>> {
    if (id === this.#self) return await this.#deps.own.content.repositories(upstream, after);
    return await this.#get(id, to(ORIGIN_GC.repositories, { upstream, after }));
  }

  async records(
    id: string,
    shard: ShardName,
    kind: 'links' | 'referrers',
    after: readonly string[],
  ): Promise<OwnPage<OwnRecord>> {
    if (id === this.#self) return await this.#deps.own.content.records(shard, kind, after);
    const from = after.length === 0 ? undefined : JSON.stringify(after);
    return await this.#get(id, to(ORIGIN_GC.records, { ...shard, kind, after: from }));
  }

  async tags(
    id: string,
    shard: ShardName,
    after: string | undefined,
    brief: boolean,
  ): Promise<OwnPage<OwnTag>> {
    if (id === this.#self) return await this.#deps.own.content.tags(shard, after, brief);
    return await this.#get(id, to(ORIGIN_GC.tags, { ...shard, after, brief }));
  }

  async layerIndexes(id: string, after: string | undefined): Promise<OwnPage<OwnLayerIndex>> {
    if (id === this.#self) return await this.#deps.own.content.layerIndexes(after);
    return await this.#get(id, to(ORIGIN_GC.layers, { after }));
  }

  async candidates(id: string, after: Digest | undefined, graceMs: number): Promise<CandidatePage> {
    if (id === this.#self) return await this.#deps.own.content.candidates(after, graceMs);
    return await this.#get(id, to(ORIGIN_GC.candidates, { after, grace: graceMs }));
  }

  /**
   * Takes the fences of all members that answer, without condemning anything: no sweep goes on before the release. For
   * a ring change that begins. @throws `GC_REFUSED` where a sweep runs
   */
  async hold(generation: string): Promise<void> {
    const { members, own } = this.#deps;
    await this.#all(async (id) => {
      if (id === this.#self) own.condemn(generation, []);
      else {
        const call = { ...to(ORIGIN_GC.condemn), json: { generation, keys: [] } };
        await members.json(id, { ...call, headersTimeoutMs: GC_HOLD_MS }).catch((error: unknown) => {
          throwIfBug(error);
          // Who is away takes part in no sweep: a sweep needs every member.
          if (isCoded(error, 'GC_REFUSED')) throw error;
        });
      }
    });
  }

  /** Keys that are in use somewhere. @throws `GC_REFUSED` where another sweep runs */
  async condemn(generation: string, keys: readonly string[]): Promise<ReadonlySet<string>> {
    const busy = await this.#all(async (id) => {
      if (id === this.#self) return this.#deps.own.condemn(generation, keys);
      const found = await this.#post<{ busy: string[] }>(
        id,
        to(ORIGIN_GC.condemn),
        { generation, keys },
        GC_CONDEMN_MS,
      );
      return found.busy;
    });
    return new Set(busy.flat());
  }

  async release(generation: string): Promise<void> {
    await this.#all(async (id) => {
      if (id === this.#self) this.#deps.own.release(generation);
      else await this.#post(id, to(ORIGIN_GC.release), { generation }, GC_CONDEMN_MS);
    });
  }

  async bury(generation: string, shard: ShardName, dead: Dead): Promise<void> {
    await askEvery(this.owners(shard), async (id) => {
      if (id === this.#self) await this.#deps.own.bury(generation, shard, dead);
      else await this.#post(id, to(ORIGIN_GC.bury), { generation, ...shard, ...dead }, GC_SLOW_MS);
    });
  }

  async linked(digests: readonly Digest[]): Promise<Set<Digest>> {
    const found = await this.#all(async (id) => {
      if (id === this.#self) return await this.#deps.own.content.linked(digests);
      return (await this.#post<{ digests: Digest[] }>(id, to(ORIGIN_GC.linked), { digests }, GC_SLOW_MS))
        .digests;
    });
    return new Set(found.flat());
  }

  async remove(generation: string, digests: readonly Digest[], withCached: boolean): Promise<GcRemoved> {
    const removed = await this.#all(async (id): Promise<GcRemoved> => {
      if (id === this.#self) return await this.#deps.own.content.remove(generation, digests, withCached);
      const json = { generation, digests, withCached };
      const { kept, ...rest } = await this.#post<Omit<GcRemoved, 'kept'> & Partial<GcRemoved>>(
        id,
        to(ORIGIN_GC.remove),
        json,
        GC_SLOW_MS,
      );
      // An older version does not tell, and trusts what it finds in a backend while that is swept.
      if (withCached && kept === undefined)
        throw refused(`${id} runs a version that knows no collection of backends`);
      return { ...rest, kept: kept ?? [] };
    });
    const sum = (of: (one: GcRemoved) => number): number => removed.reduce((all, one) => all + of(one), 0);
    return {
      blobs: sum(({ blobs }) => blobs),
      bytes: sum(({ bytes }) => bytes),
      kept: removed.flatMap(({ kept }) => kept),
    };
  }

  get #self(): string {
    return this.#deps.members.selfId;
  }

  async #all<T>(ask: (id: string) => Promise<T>): Promise<T[]> {
    return await askEvery(this.ids, ask);
  }

  async #get<T>(id: string, call: RouteCall, headersTimeoutMs = GC_SLOW_MS): Promise<T> {
    const { members } = this.#deps;
    return await members.json<T>(id, { ...call, epoch: members.epoch, headersTimeoutMs });
  }

  async #post<T>(id: string, call: RouteCall, json: unknown, headersTimeoutMs: number): Promise<T> {
    const { members } = this.#deps;
    return await members.json<T>(id, { ...call, json, epoch: members.epoch, headersTimeoutMs });
  }
}

/** The error of a sweep that may not begin or go on, with its reason. */
export function refused(reason: string, detail: Readonly<Record<string, unknown>> = {}): CodedError {
  return new CodedError('GC_REFUSED', { message: `garbage is not collected: ${reason}`, detail });
}
