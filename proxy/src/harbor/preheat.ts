import { askInTurn } from '@sepia/base/async/ask-many';
import { backoffMs } from '@sepia/base/async/backoff';
import { fewAtOnce } from '@sepia/base/async/few-at-once';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded, isUpstreamFailure } from '@sepia/base/errors';
import { ignoreFailure, logFailure, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { BlobFetchState } from '@sepia/cluster/api/blob-answers';
import { H_UPSTREAM_AUTHORIZATION } from '@sepia/cluster/api/headers';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import { isDefinite } from '@sepia/cluster/core/answers';
import type { CommandView, NodeCommands } from '@sepia/cluster/node-commands';
import { readLimited } from '@sepia/http/client';
import { referenceText } from '@sepia/oci/route';
import { whileAlive } from '../bodies/blob-source.ts';
import type { Origins } from '../cluster/origins.ts';
import type { Conversions } from '../conversions/conversions.ts';
import {
  COMMAND_POLL_MS,
  FETCH_SLACK_MS,
  FETCH_WAIT_MS,
  MAX_PREHEAT_RETRY_MS,
  NODE_GONE_MS,
  PREHEAT_COMMAND_MS,
  PREHEAT_RETRY_MS,
} from '../deadlines.ts';
import type { ImageName } from './core/image-url.ts';
import type { JobRow } from './core/job-slots.ts';
import type { Scope } from './core/messages.ts';
import { hostOfUrl, nodeRows } from './core/rows.ts';
import { type ImageBlobs, noneOf, readImage } from './image-blobs.ts';

/** Blobs of one image at once; each is fetched by its own origin. */
const PARALLEL = 4;
/** Rounds over a blob's origins before it counts as failed. */
const TRIES = 4;
/** So often the registry may fail, each time for as long as the origin's own deadline. */
const MAX_REFUSALS = 2;

/** `authorization`: what Harbor brought for the registry; used for this job and never stored. */
export interface PreheatRequest {
  readonly image: ImageName;
  readonly scope: Scope;
  readonly authorization: string | undefined;
  /** Id of the command to nodes; the same for every run of the same job. */
  readonly commandId: string;
}

interface PreheatDeps {
  readonly cluster: Cluster;
  readonly origins: Origins;
  readonly commands: NodeCommands;
  /** Where the image is to be indexed as well, if the rules say so. */
  readonly conversions?: Pick<Conversions, 'take'>;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/** One image on its way to origins, and to nodes if its scope says so. `rows` may be read at any time. */
export class Preheat {
  readonly #deps: PreheatDeps;
  readonly #request: PreheatRequest;
  #authorization: string | undefined;
  #image: ImageBlobs | undefined;
  readonly #have = new Map<Digest, number>();
  readonly #stored = new Map<string, number>();
  readonly #failed = new Map<string, string>();
  #nodes: readonly JobRow[] = [];

  constructor(deps: PreheatDeps, request: PreheatRequest) {
    this.#deps = deps;
    this.#request = request;
    this.#authorization = request.authorization;
  }

  /** Blobs that are stored, and all. */
  get counts(): { readonly done: number; readonly all: number } {
    const blobs = this.#image?.blobs ?? new Map<Digest, number>();
    let done = 0;
    for (const [digest, sizeBytes] of blobs) if ((this.#have.get(digest) ?? -1) >= sizeBytes) done += 1;
    return { done, all: blobs.size };
  }

  /** Origins that hold blobs of it (while it runs: one row for all of them), then nodes. */
  rows(): JobRow[] {
    const { cluster } = this.#deps;
    const ids = new Set([...this.#stored.keys(), ...this.#failed.keys()]);
    const rows: JobRow[] = [...ids].sort().map((id) => {
      const description = this.#failed.get(id);
      const doneBytes = this.#stored.get(id) ?? 0;
      const ip = hostOfUrl(cluster.findMember(id)?.urls[0] ?? '');
      const state = description === undefined ? 'done' : 'failed';
      return { id, role: 'origin', ip, state, description, doneBytes };
    });
    return [...rows, ...this.#nodes];
  }

  /** Bytes that origins have of the image, and all. */
  get originBytes(): { readonly doneBytes: number; readonly totalBytes: number } {
    let doneBytes = 0;
    let totalBytes = 0;
    for (const [digest, sizeBytes] of this.#image?.blobs ?? []) {
      totalBytes += sizeBytes;
      doneBytes += Math.min(sizeBytes, this.#have.get(digest) ?? 0);
    }
    return { doneBytes, totalBytes };
  }

  /**
   * Resolves when every blob is stored where the scope wants it and the nodes have reported. A node that went away is
   * a failed row, no failure. @throws with a short text for people
   */
  async run(signal: AbortSignal): Promise<void> {
    const { image, scope } = this.#request;
    this.#image = await this.#allowed((authorization) =>
      readImage(this.#deps.origins, image, authorization, signal),
    );
    await this.#fetchAll(this.#image, signal);
    this.#authorization = undefined;
    await this.#index();
    if (scope === 'all_peers') await this.#reachNodes(this.#image.top, signal);
  }

  /** With the token that came along; where the registry refuses it, as it may in several steps at once, with the origins' own credentials. */
  async #allowed<T>(step: (authorization: string | undefined) => Promise<T>): Promise<T> {
    const brought = this.#authorization;
    try {
      return await step(brought);
    } catch (error) {
      if (brought === undefined || !isCoded(error, 'UPSTREAM_DENIED')) throw error;
      this.#authorization = undefined;
      return await step(undefined);
    }
  }

  /** Has the image indexed for lazy starts. The first pull asks for that again, so a failure does not fail the preheat. */
  async #index(): Promise<void> {
    const { upstream, repository, reference } = this.#request.image;
    try {
      const event = { kind: 'preheat', upstream, repository, tag: referenceText(reference) } as const;
      await this.#deps.conversions?.take(event);
    } catch (error) {
      throwIfBug(error);
      logFailure(this.#deps.log, error, 'a preheated image was not handed to be indexed', { repository });
    }
  }

  async #fetchAll(image: ImageBlobs, signal: AbortSignal): Promise<void> {
    const { blobs, doubtful } = image;
    const failures: string[] = [];
    const absent = new Set<Digest>();
    const fetch = async (one: Digest, running: AbortSignal): Promise<void> => {
      try {
        await this.#allowed((authorization) => this.#fetchOne(one, authorization, running));
      } catch (error) {
        throwIfBug(error);
        running.throwIfAborted();
        if (doubtful.has(one) && isCoded(error, 'BLOB_UNKNOWN')) return void absent.add(one);
        const reason = error instanceof Error ? error.message : String(error);
        failures.push(`${one.slice(0, 19)}…: ${reason}`);
        const [owner = ''] = this.#deps.origins.placement(one).owners;
        this.#failed.set(owner, reason);
      }
    };
    await fewAtOnce(blobs.keys(), PARALLEL, fetch, signal);
    if (absent.size > 0 && absent.size === blobs.size) throw noneOf();
    const there = [...blobs].filter(([digest]) => !absent.has(digest));
    this.#image = { ...image, blobs: new Map(there), absent: [...image.absent, ...absent] };
    const missed = [...this.#failed].filter(([, reason]) => reason !== '');
    if (failures.length > 0)
      throw new CodedError('NO_PEERS', {
        message: `${failures.length} of ${blobs.size} blobs are not stored: ${failures.slice(0, 3).join('; ')}`,
      });
    if (missed.length > 0)
      throw new CodedError('NO_PEERS', {
        message: `${missed.length} origins did not get their copies: ${missed.map(([id, why]) => `${id}: ${why}`).join('; ')}`,
      });
  }

  async #fetchOne(digest: Digest, authorization: string | undefined, signal: AbortSignal): Promise<void> {
    let lost: unknown;
    let refusals = 0;
    for (let tries = 1; tries <= TRIES && refusals < MAX_REFUSALS; tries++) {
      const order = this.#deps.origins.tries(digest);
      try {
        // The fetching origin's own deadline has passed: the next would only begin to wait anew.
        const isFinal = (error: unknown): boolean => isDefinite(error) || isUpstreamFailure(error);
        const ask = async (id: string): Promise<void> =>
          await this.#fetchAt(id, digest, authorization, signal);
        return await askInTurn(order, ask, { signal, isFinal });
      } catch (error) {
        throwIfBug(error);
        signal.throwIfAborted();
        if (isDefinite(error)) throw error;
        lost = error;
        if (isUpstreamFailure(error)) refusals += 1;
      }
      if (tries < TRIES) await delay(backoffMs(tries, PREHEAT_RETRY_MS, MAX_PREHEAT_RETRY_MS), signal);
    }
    throw lost;
  }

  async #fetchAt(
    id: string,
    digest: Digest,
    authorization: string | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { origins } = this.#deps;
    const { image, scope } = this.#request;
    const copies = scope === 'single_seed_peer' ? undefined : 'all';
    const call = to(ORIGIN_BLOBS.fetch, { ...image, digest, wait: FETCH_WAIT_MS, copies });
    for (;;) {
      const state = await whileAlive(origins, id, signal, async (running) => {
        const answer = await origins.call(id, {
          ...call,
          headers: authorization === undefined ? {} : { [H_UPSTREAM_AUTHORIZATION]: authorization },
          headersTimeoutMs: FETCH_WAIT_MS + FETCH_SLACK_MS,
          lasts: 'wait',
          signal: running,
        });
        return JSON.parse((await readLimited(answer.body, 64 * 1024, id)).toString('utf8')) as BlobFetchState;
      });
      const sizeBytes = this.#image?.blobs.get(digest) ?? state.sizeBytes;
      this.#have.set(digest, state.state === 'final' ? sizeBytes : Math.min(state.haveBytes, sizeBytes - 1));
      if (state.state !== 'final') continue;
      for (const holder of state.holders)
        this.#stored.set(holder, (this.#stored.get(holder) ?? 0) + state.sizeBytes);
      for (const [owner, reason] of Object.entries(state.failed)) this.#failed.set(owner, reason);
      return;
    }
  }

  async #reachNodes(manifest: Digest, signal: AbortSignal): Promise<void> {
    const { commands, nowMs } = this.#deps;
    const { image, commandId } = this.#request;
    const command = {
      id: commandId,
      type: 'prefetch',
      detail: { upstream: image.upstream, repository: image.repository, manifest },
      ttlMs: PREHEAT_COMMAND_MS,
    } as const;
    await commands.send(command);
    const goneSinceMs = new Map<string, number>();
    for (;;) {
      const view = await commands.view(commandId);
      if (view.unaware.length > 0) await commands.send(command, view.unaware).catch(ignoreFailure);
      const isOver = this.#noteNodes(view, goneSinceMs, nowMs());
      if (isOver && view.silent.length < commands.trackerIds.length) break;
      await delay(COMMAND_POLL_MS, signal);
    }
    const failed = this.#nodes.filter(({ state }) => state === 'failed');
    const refused = failed.filter(({ id }) => !goneSinceMs.has(id));
    const noneDone = failed.length > 0 && failed.length === this.#nodes.length;
    if (refused.length > 0 || noneDone)
      throw new CodedError('NO_PEERS', {
        message: `${failed.length} of ${this.#nodes.length} nodes failed: ${failed
          .slice(0, 3)
          .map(({ id, description }) => `${id}: ${description ?? ''}`)
          .join('; ')}`,
      });
  }

  /** True when every node has ended or is given up. */
  #noteNodes(view: CommandView, goneSinceMs: Map<string, number>, nowMs: number): boolean {
    let isOver = true;
    for (const { nodeId, state, leased } of view.nodes) {
      const isOpen = state === 'pending' || state === 'running';
      if (leased || !isOpen) goneSinceMs.delete(nodeId);
      else if (!goneSinceMs.has(nodeId)) goneSinceMs.set(nodeId, nowMs);
      if (isOpen && !(nowMs - (goneSinceMs.get(nodeId) ?? nowMs) > NODE_GONE_MS)) isOver = false;
    }
    this.#nodes = nodeRows(view.nodes, (id) => nowMs - (goneSinceMs.get(id) ?? nowMs) > NODE_GONE_MS);
    return isOver;
  }
}
