import { randomUUID } from 'node:crypto';
import { MemberClock } from '@sepia/base/clock/member-clock';
import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { JoinAnswer, JoinRequest } from '@sepia/cluster/api/join';
import { type LeaseAnswer, type LeaseRequest, MAX_LEASE_SEEDS } from '@sepia/cluster/api/lease';
import { to } from '@sepia/cluster/api/route';
import { setHash } from '@sepia/cluster/api/set-hash';
import { TRACKER } from '@sepia/cluster/api/tracker';
import { InternalClient } from '@sepia/http/client';
import { createDispatcher } from '@sepia/http/sockets';

const ANSWER_MS = 30_000;
const TTL_MS = 60_000;
/** How often joins that are due are sent, in ms. */
const TICK_MS = 5;
const JOINING_AT_ONCE = 32;
const BOOT_ID = randomUUID();

interface Node {
  readonly id: string;
  readonly client: InternalClient;
  readonly addresses: readonly string[];
  seq: number;
}

export interface CrowdPlan {
  readonly trackerUrl: string;
  readonly trackerId: string;
  readonly clusterKey: Uint8Array;
  readonly nodes: number;
  readonly blobs: readonly Digest[];
  readonly upstream: string;
  readonly repository: string;
}

/** What a stretch of load came to; times in ms. */
export interface CrowdFigures {
  readonly joinMs: readonly number[];
  readonly heartbeatMs: readonly number[];
  /** How long the tracker said to wait until the next heartbeat, at the end. */
  readonly toldHeartbeatMs: number;
  /** Calls that got no good answer, by code. */
  readonly refused: Readonly<Record<string, number>>;
}

/** Agents of a big cluster, as one tracker hears them: every node has every blob, and joins swarms of them. */
export class TrackerCrowd {
  readonly #plan: CrowdPlan;
  readonly #dispatcher = createDispatcher();
  readonly #nodes: readonly Node[];
  readonly #hash: string;
  #joinMs: number[] = [];
  #heartbeatMs: number[] = [];
  #refused: Record<string, number> = {};
  #toldMs = 0;

  constructor(plan: CrowdPlan) {
    this.#plan = plan;
    this.#hash = setHash(plan.blobs);
    const clock = new MemberClock();
    this.#nodes = Array.from({ length: plan.nodes }, (_, at) => {
      const id = `node-${at}`;
      const address = `10.${(at >> 16) & 255}.${(at >> 8) & 255}.${at & 255}:17001`;
      const { clusterKey } = plan;
      const client = new InternalClient({ dispatcher: this.#dispatcher, clusterKey, memberId: id, clock });
      return { id, client, addresses: [address], seq: 0 };
    });
  }

  async close(): Promise<void> {
    await this.#dispatcher.destroy();
  }

  /** Every node takes its lease and says what it has; every swarm has its metainfo. @throws {Error} if any was refused */
  async arrive(): Promise<void> {
    const { blobs } = this.#plan;
    const parts = Array.from({ length: Math.ceil(blobs.length / MAX_LEASE_SEEDS) }, (_, at) =>
      blobs.slice(at * MAX_LEASE_SEEDS, (at + 1) * MAX_LEASE_SEEDS),
    );
    const known = parts.map((_, at) => setHash(parts.slice(0, at + 1).flat()));
    await this.#each(blobs, async (blob) => await this.#join(this.#nodes[0]!, blob, performance.now()));
    await this.#each(this.#nodes, async (node) => {
      for (const [at, add] of parts.entries()) await this.#renew(node, add, known[at]!);
    });
    if (Object.keys(this.#refused).length > 0)
      throw new Error(`nodes were refused: ${JSON.stringify(this.#refused)}`);
  }

  /** For so long each node sends heartbeats as often as it is told, and `joinsPerSecond` come evenly, answered or not. */
  async load(seconds: number, joinsPerSecond: number): Promise<CrowdFigures> {
    [this.#joinMs, this.#heartbeatMs, this.#refused] = [[], [], {}];
    const endMs = performance.now() + seconds * 1000;
    const running: Promise<void>[] = this.#nodes.map(async (node) => await this.#beat(node, endMs));
    const { blobs } = this.#plan;
    const [fromMs, step] = [performance.now(), 1000 / joinsPerSecond];
    for (let sent = 0; performance.now() < endMs; await delay(TICK_MS))
      for (; fromMs + sent * step <= performance.now(); sent++) {
        const node = this.#nodes[Math.floor(Math.random() * this.#nodes.length)]!;
        const blob = blobs[Math.floor(Math.random() * blobs.length)]!;
        // From the time at which it was due: a late sender makes nothing look quicker.
        running.push(this.#join(node, blob, fromMs + sent * step));
      }
    await Promise.all(running);
    const toldHeartbeatMs = Math.round(this.#toldMs);
    const [joinMs, heartbeatMs, refused] = [this.#joinMs, this.#heartbeatMs, this.#refused];
    return { joinMs, heartbeatMs, toldHeartbeatMs, refused };
  }

  async #beat(node: Node, endMs: number): Promise<void> {
    // Nodes do not begin all at once.
    await delay(Math.random() * this.#toldMs);
    while (performance.now() < endMs) {
      const fromMs = performance.now();
      await this.#renew(node, [], this.#hash);
      this.#heartbeatMs.push(performance.now() - fromMs);
      await delay(Math.min(this.#toldMs, Math.max(0, endMs - performance.now())));
    }
  }

  async #renew(node: Node, add: readonly Digest[], hash: string): Promise<void> {
    const request: LeaseRequest = {
      bootId: BOOT_ID,
      seq: node.seq++,
      addresses: [...node.addresses],
      ttlMs: TTL_MS,
      add: [...add],
      drop: [],
      leeching: [],
      setHash: hash,
    };
    const answer = await this.#ask<LeaseAnswer>(node, to(TRACKER.lease, { id: node.id }), request);
    if (answer === undefined) return;
    this.#toldMs = answer.heartbeatMs;
    if (answer.resync === true) this.#refuse('resync');
  }

  async #join(node: Node, blob: Digest, dueMs: number): Promise<void> {
    const { upstream, repository } = this.#plan;
    const request: JoinRequest = {
      nodeId: node.id,
      addresses: [...node.addresses],
      upstream,
      repository,
      leeching: true,
    };
    const answer = await this.#ask<JoinAnswer>(node, to(TRACKER.join, { digest: blob }), request);
    if (answer !== undefined) this.#joinMs.push(performance.now() - dueMs);
    if (answer?.kind === 'small') this.#refuse('small');
  }

  async #ask<T>(node: Node, call: ReturnType<typeof to>, json: unknown): Promise<T | undefined> {
    const { trackerUrl: url, trackerId } = this.#plan;
    const { method, path } = call as { method: 'PUT' | 'POST'; path: string };
    try {
      return await node.client.json<T>({
        url,
        to: trackerId,
        method,
        path,
        json,
        headersTimeoutMs: ANSWER_MS,
      });
    } catch (error) {
      throwIfBug(error);
      this.#refuse(isCoded(error) ? error.code : 'silence');
      return undefined;
    }
  }

  #refuse(why: string): void {
    this.#refused[why] = (this.#refused[why] ?? 0) + 1;
  }

  async #each<T>(all: readonly T[], run: (one: T) => Promise<void>): Promise<void> {
    let next = 0;
    const work = async (): Promise<void> => {
      for (let one = all[next++]; one !== undefined; one = all[next++]) await run(one);
    };
    await Promise.all(Array.from({ length: JOINING_AT_ONCE }, work));
  }
}
