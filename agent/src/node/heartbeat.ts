import { randomUUID } from 'node:crypto';
import { askAll } from '@sepia/base/async/ask-many';
import { boundedMs } from '@sepia/base/bounded-ms';
import { isCoded } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { Reach } from '@sepia/base/reach';
import type { LeaseAnswer, LeaseRequest } from '@sepia/cluster/api/lease';
import { MAX_REVOCATIONS } from '@sepia/cluster/api/revocation';
import { setHash } from '@sepia/cluster/api/set-hash';
import type { TrackerClient } from '../cluster/tracker-client.ts';
import { BEAT_AGAIN_MS, MAX_PAUSE_MS, POKE_MS } from '../deadlines.ts';
import type { CommandLog } from './commands/core/command-log.ts';
import type { CommandRunner } from './commands/runner.ts';
import { BeatPace } from './core/beat-pace.ts';
import type { LeaseBook } from './core/lease-book.ts';

const SPREAD = 0.2;

interface HeartbeatDeps {
  readonly trackers: TrackerClient;
  readonly book: LeaseBook;
  readonly commandLog: CommandLog;
  readonly commands: Pick<CommandRunner, 'receive'>;
  readonly nodeId: string;
  readonly zone: string | undefined;
  readonly addresses: () => readonly string[];
  readonly self: () => NonNullable<LeaseRequest['self']>;
  /** Digests being downloaded, with live figures. */
  readonly swarms: () => NonNullable<LeaseRequest['swarms']>;
  readonly trackerIdsOf: (digest: string) => string[];
  readonly log: Logger;
  readonly chance: () => number;
  readonly onAnswer: (answered: boolean) => void;
  readonly reach: Pick<Reach, 'answered' | 'failed'>;
  /** Torrents of what is here: their strangers may come in. */
  readonly onStrangers: (told: NonNullable<LeaseAnswer['strangers']>) => void;
  /** Links that are no more; each tracker tells it once. */
  readonly onRevoked: (revoked: LeaseAnswer['revoked']) => Promise<void>;
}

/** Renews this node's lease at every tracker, each with the seeds that it is to know. */
export class Heartbeat {
  readonly #deps: HeartbeatDeps;
  readonly #bootId = randomUUID();
  readonly #timers = new Map<string, NodeJS.Timeout>();
  readonly #beating = new Set<string>();
  /** Trackers for which there is news that the beat under way may lack. */
  readonly #again = new Set<string>();
  readonly #paces = new Map<string, BeatPace>();
  /** Up to where each tracker told what was revoked. */
  readonly #revokedCursors = new Map<string, string>();
  /** Who else has this node's id, by the tracker that says so. */
  readonly #twins = new Map<string, string>();
  #seq = 0;
  #stopped = false;

  constructor(deps: HeartbeatDeps) {
    this.#deps = deps;
  }

  start(): void {
    for (const trackerId of this.#deps.trackers.allIds()) this.#schedule(trackerId, 0);
  }

  /** Lines for `/readyz`. */
  get warnings(): string[] {
    const [address] = this.#twins.values();
    if (address === undefined) return [];
    const where = address === '' ? '' : ` (it says that it is at ${address})`;
    return [
      `twin: another process has the id ${this.#deps.nodeId} as well${where}, and peers take the two for one; give each an \`id\` and a data folder of its own`,
    ];
  }

  /** Ends the heartbeats and says farewell. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
    const { nodeId, trackers } = this.#deps;
    await askAll(trackers.allIds(), async (id) => await trackers.leave(id, nodeId));
  }

  /** A swarm began: its trackers hear of it soon. */
  poke(digest: string): void {
    for (const trackerId of this.#deps.trackerIdsOf(digest).slice(0, 2)) this.#soon(trackerId);
  }

  /** A command ended: every tracker hears of it soon. */
  pokeAll(): void {
    for (const trackerId of this.#deps.trackers.allIds()) this.#soon(trackerId);
  }

  #soon(trackerId: string): void {
    if (this.#beating.has(trackerId)) {
      this.#again.add(trackerId);
      return;
    }
    clearTimeout(this.#timers.get(trackerId));
    this.#schedule(trackerId, POKE_MS);
  }

  #schedule(trackerId: string, delayMs: number): void {
    if (this.#stopped) return;
    const timer = setTimeout(
      () => {
        this.#beating.add(trackerId);
        this.#again.delete(trackerId);
        this.#beat(trackerId)
          .finally(() => this.#beating.delete(trackerId))
          .then((nextMs) => {
            const spreadMs = nextMs * (1 + SPREAD * (2 * this.#deps.chance() - 1));
            this.#schedule(trackerId, this.#again.has(trackerId) ? Math.min(POKE_MS, spreadMs) : spreadMs);
          })
          .catch((error: unknown) => {
            logFailure(this.#deps.log, error, 'heartbeat failed', {}, 'error');
            this.#schedule(trackerId, BEAT_AGAIN_MS);
          });
      },
      boundedMs(delayMs, 0, MAX_PAUSE_MS),
    );
    timer.unref();
    this.#timers.set(trackerId, timer);
  }

  async #beat(trackerId: string): Promise<number> {
    const { trackers, book, nodeId, zone, addresses, self, swarms, trackerIdsOf } = this.#deps;
    const { onAnswer, onRevoked, onStrangers, commandLog } = this.#deps;
    const cursor = this.#revokedCursors.get(trackerId);
    const pace = this.#paces.get(trackerId) ?? new BeatPace();
    this.#paces.set(trackerId, pace);
    const change = book.change(trackerId);
    const { reports, versions } = commandLog.reports(trackerId);
    const running = swarms().filter(({ digest }) => trackerIdsOf(digest).slice(0, 2).includes(trackerId));
    this.#seq += 1;
    const lease: LeaseRequest = {
      bootId: this.#bootId,
      seq: this.#seq,
      addresses: [...addresses()],
      ...(zone === undefined ? {} : { zone }),
      ttlMs: pace.leaseMs,
      add: [...change.add],
      drop: [...change.drop],
      leeching: running.filter(({ have, pieces }) => !isFull(have, pieces)).map(({ digest }) => digest),
      setHash: setHash(change.set),
      ...(cursor === undefined ? {} : { revokedAfter: cursor }),
      self: self(),
      swarms: running,
      commands: reports,
    };
    try {
      const answer = await trackers.renew(trackerId, nodeId, lease);
      this.#noteTwin(trackerId, answer.twin);
      onAnswer(true);
      this.#deps.reach.answered();
      onStrangers(answer.strangers ?? []);
      await onRevoked(answer.revoked);
      if (answer.revokedCursor !== undefined) this.#revokedCursors.set(trackerId, answer.revokedCursor);
      book.told(trackerId, change, answer.resync === true);
      commandLog.told(trackerId, versions);
      this.#deps.commands.receive(trackerId, answer.commands);
      // A full message has a next one.
      const hasMore = answer.resync === true || answer.revoked.length >= MAX_REVOCATIONS;
      const isWatched = running.length > 0 || commandLog.hasNews(trackerId);
      return pace.answered({ ...answer, hasMore }, isWatched);
    } catch (error) {
      throwIfBug(error);
      this.#noteTwin(trackerId, undefined);
      const kind = isCoded(error, 'SIGNATURE_INVALID') ? 'refused' : 'silent';
      this.#deps.reach.failed(trackerId, kind, (error as Error).message, performance.now());
      this.#deps.log.debug({ err: error, trackerId }, 'tracker did not take the lease');
      return pace.failed();
    }
  }

  #noteTwin(trackerId: string, twin: string | undefined): void {
    const isNews = this.#twins.size === 0;
    if (twin === undefined) this.#twins.delete(trackerId);
    else this.#twins.set(trackerId, twin);
    if (isNews) for (const line of this.warnings) this.#deps.log.warn({ trackerId, twin }, line);
  }
}

function isFull(haveHex: string, pieces: number): boolean {
  const bits = Buffer.from(haveHex, 'hex');
  let count = 0;
  for (const byte of bits) for (let rest = byte; rest !== 0; rest &= rest - 1) count += 1;
  return count >= pieces;
}
