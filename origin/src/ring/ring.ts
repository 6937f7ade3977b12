import { SingleFlight } from '@sepia/base/async/single-flight';
import { CodedError } from '@sepia/base/errors';
import { ignoreFailure, isBug, logFailure, throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { ORIGIN_RING, RING_ANSWER, type RingStatus } from '@sepia/cluster/api/ring';
import { to } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import {
  beginChange,
  endChange,
  isMoving,
  type Membership,
  type RingChange,
  spareOf,
  waitsFor,
} from '@sepia/cluster/membership';
import type { InternalClient } from '@sepia/http/client';
import { canonicalJson } from '@sepia/records/core/join';
import type { BlobIndex } from '../blobs/blob-index.ts';
import type { Hints } from '../blobs/hints.ts';
import { type Members, QUICK_MS } from '../cluster/members.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { Agreement } from './agreement.ts';
import type { Move } from './move.ts';

const MOVING_REST_MS = 300;
const IDLE_REST_MS = 30_000;
/** Who is not the first of the origins gives that one so many turns to end a change. */
const TURNS = 6;

interface RingDeps {
  readonly cluster: Cluster;
  readonly members: Members;
  readonly client: InternalClient;
  readonly standing: OwnStanding;
  readonly agreement: Agreement;
  readonly move: Move;
  readonly index: Pick<BlobIndex, 'wanted'>;
  readonly hints: Pick<Hints, 'size'>;
  readonly log: Logger;
  /** The membership is another one: what follows from it is counted anew. */
  readonly onFollow: () => void;
}

/** The membership of the ring as this origin knows it, its changes, and this origin's part in one. ADR 0024. */
export class Ring {
  readonly #deps: RingDeps;
  readonly #flights = new SingleFlight<string, void>();
  readonly #stopped = new AbortController();
  #turn: Promise<void> = Promise.resolve();
  #running: Promise<void> | undefined;
  #rested: AbortController | undefined;
  #waits: readonly string[] = [];
  #turns = 0;

  constructor(deps: RingDeps) {
    this.#deps = deps;
  }

  get membership(): Membership {
    return this.#deps.cluster.membership;
  }

  /** It is agreed, not only what this origin's document says. */
  get isFounded(): boolean {
    return this.#deps.standing.membership !== undefined;
  }

  /** The membership is known, and this origin is not in it. */
  get isOutside(): boolean {
    const { members } = this.#deps;
    return this.isFounded && members.find(members.selfId) === undefined;
  }

  /** In words, for `/readyz`; empty where no change is under way. */
  get warnings(): string[] {
    const { epoch, change } = this.membership;
    if (!isMoving(this.membership)) return [];
    const whom = this.#waits.length === 0 ? '' : `; waits for ${this.#waits.join(', ')}`;
    return [`ring change (epoch ${epoch}): ${change}${whom}`];
  }

  start(): void {
    this.#running = this.#run().catch((error: unknown) => {
      if (!this.#stopped.signal.aborted)
        logFailure(this.#deps.log, error, 'ring changes stopped', {}, 'error');
    });
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new CodedError('DRAINING'));
    await this.#running;
  }

  /** This origin takes part in `membership` from here on, durably; an older one changes nothing. */
  async follow(membership: Membership): Promise<void> {
    const turn = this.#turn.then(async () => await this.#follow(membership));
    this.#turn = turn.then(ignoreFailure, ignoreFailure);
    await turn;
  }

  /** What the document says is agreed: all origins are new, or the folder is of a version without memberships. */
  async found(): Promise<void> {
    if (!this.isFounded) await this.follow(this.membership);
  }

  /** Asks the others (or one) for their membership and follows the newest. */
  async catchUp(ids: readonly string[] = this.#others): Promise<void> {
    const ask = async (): Promise<void> => {
      const answers = await Promise.all(ids.map(async (id) => await this.#askedOf(id)));
      const told = answers.filter((one) => one !== undefined).sort((a, b) => b.epoch - a.epoch);
      if (told[0] !== undefined) await this.follow(told[0]);
    };
    await this.#flights.run(ids.join('\n'), ask, this.#stopped.signal);
  }

  /** Returns once this origin's membership is at least that of a message. @throws `RECORDS_PENDING` if it does not get it */
  async reach(epoch: number, from?: string): Promise<void> {
    if (this.membership.epoch >= epoch) return;
    if (from !== undefined) await this.catchUp([from]);
    if (this.membership.epoch < epoch) await this.catchUp();
    if (this.membership.epoch < epoch)
      throw new CodedError('RECORDS_PENDING', {
        message: `membership of epoch ${epoch} is not known here yet`,
      });
  }

  /** An answer of another origin named a newer epoch. */
  heard(epoch: number, from: string): void {
    if (epoch <= this.membership.epoch || this.#deps.members.find(from) === undefined) return;
    this.#deps.members.awaits(
      this.reach(epoch, from).catch((error: unknown) =>
        logFailure(this.#deps.log, error, 'membership not got', {}, 'debug'),
      ),
    );
  }

  /**
   * Begins a change; it goes on by itself. `epoch`: of the membership that the operator saw.
   * @throws `REQUEST_INVALID`, `RING_CHANGING`, `CONFLICT`, `QUORUM_LOST`
   */
  async change(change: RingChange, epoch: number): Promise<Membership> {
    const { standing, agreement } = this.#deps;
    standing.requireAll();
    await this.catchUp();
    const current = this.membership;
    if (epoch !== current.epoch)
      throw new CodedError('CONFLICT', {
        message: `the ring is at epoch ${current.epoch} by now`,
        detail: { epoch },
      });
    const next = beginChange(current, change);
    await this.#checkReach(current, next);
    const decided = await agreement.decide(current, next);
    await this.follow(decided);
    await this.#tell(decided);
    if (canonicalJson(decided) !== canonicalJson(next))
      throw new CodedError('RING_CHANGING', { detail: { epoch: decided.epoch, change: decided.change } });
    return decided;
  }

  status(): RingStatus {
    const { members, standing, move, index, hints } = this.#deps;
    const { epoch } = this.membership;
    const moving = isMoving(this.membership);
    const isDone = !moving || move.isDone(epoch);
    return {
      id: members.selfId,
      epoch,
      isSettled: standing.isSettled,
      isDone,
      hasLed: move.hasLed,
      ...(moving && !isDone && move.doing !== '' ? { doing: move.doing } : {}),
      share: isDone ? 1 : move.share,
      registers: moving ? move.registers : 0,
      blobsOwed: index.wanted,
      copiesOwed: hints.size,
    };
  }

  get #others(): string[] {
    const { cluster, members } = this.#deps;
    return cluster
      .members('origin')
      .map(({ id }) => id)
      .filter((id) => id !== members.selfId);
  }

  async #follow(membership: Membership): Promise<void> {
    const { cluster, standing, log } = this.#deps;
    const isNews = !this.isFounded || membership.epoch > cluster.epoch;
    if (!isNews) return;
    await standing.follow(
      membership,
      cluster.file.members.filter(({ role }) => role === 'origin'),
    );
    cluster.follow(membership);
    log.info({ epoch: membership.epoch, change: membership.change }, 'membership of the ring');
    this.#turns = 0;
    this.#waits = [];
    this.#deps.onFollow();
    this.#rested?.abort();
  }

  async #askedOf(id: string): Promise<Membership | undefined> {
    try {
      const { signal } = this.#stopped;
      const told = RING_ANSWER.safeParse(
        await this.#deps.members.json(id, { ...to(ORIGIN_RING.membership), signal }),
      );
      return told.data?.founded === true ? told.data.membership : undefined;
    } catch (error) {
      throwIfBug(error);
      return undefined;
    }
  }

  /** Everybody who must take part answers, and is of a version that can. */
  async #checkReach(current: Membership, next: Membership): Promise<void> {
    const { client, members } = this.#deps;
    const known = new Set(current.origins.map(({ id }) => id));
    const silent: string[] = [];
    for (const member of next.origins) {
      if (member.id === members.selfId || member.state === 'draining') continue;
      const [url = ''] = member.urls;
      const call = { ...to(ORIGIN_RING.membership), url, to: member.id, headersTimeoutMs: QUICK_MS * 4 };
      try {
        await client.json(call);
      } catch (error) {
        throwIfBug(error);
        if (!known.has(member.id))
          throw new CodedError('REQUEST_INVALID', {
            message: `ring: ${member.id} does not answer at ${url}; start it first`,
            cause: error,
          });
        silent.push(member.id);
      }
    }
    if (silent.length > spareOf(current.origins))
      throw new CodedError('QUORUM_LOST', {
        message: `ring: ${silent.join(', ')} must answer, and be of this version, before the ring changes`,
      });
  }

  async #tell(membership: Membership): Promise<void> {
    const { members } = this.#deps;
    const call = { ...to(ORIGIN_RING.learn), json: membership };
    await Promise.all(
      this.#others.map(async (id) => {
        await members.json(id, call).catch(ignoreFailure);
      }),
    );
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    const { log } = this.#deps;
    while (!signal.aborted) {
      const isBusy = isMoving(this.membership);
      if (isBusy)
        await this.#advance(this.membership).catch((error: unknown) => {
          if (!signal.aborted)
            logFailure(log, error, 'ring change does not go on yet', {}, isBug(error) ? 'error' : 'debug');
        });
      this.#rested = new AbortController();
      const restMs = isMoving(this.membership) ? MOVING_REST_MS : IDLE_REST_MS;
      await pause(restMs, AbortSignal.any([signal, this.#rested.signal]));
    }
  }

  /** This origin's part, then the end of the change once everybody's is done. */
  async #advance(membership: Membership): Promise<void> {
    const { standing, move, members, agreement } = this.#deps;
    if (!standing.isSettled || this.isOutside) return;
    await move.run(membership, this.#stopped.signal);
    const ids = members.ids;
    const reports = await Promise.all(
      ids.map(async (id) => {
        if (id === members.selfId) return this.status();
        try {
          return await members.json<RingStatus>(id, {
            ...to(ORIGIN_RING.status),
            signal: this.#stopped.signal,
          });
        } catch (error) {
          throwIfBug(error);
          return undefined;
        }
      }),
    );
    const told = reports.filter((one) => one !== undefined);
    const newer = told.find(({ epoch }) => epoch > membership.epoch);
    if (newer !== undefined) return await this.reach(newer.epoch, newer.id);
    this.#waits = waitsFor(membership, told);
    for (const { id, epoch } of told) if (epoch < membership.epoch) await this.#tellOne(id, membership);
    if (this.#waits.length > 0) return;
    this.#turns += 1;
    const first = ids.filter((id) => !members.isSuspect(id)).sort()[0];
    if (first !== members.selfId && this.#turns < TURNS) return;
    const decided = await agreement.decide(membership, endChange(membership));
    await this.follow(decided);
    await this.#tell(decided);
  }

  async #tellOne(id: string, membership: Membership): Promise<void> {
    await this.#deps.members.json(id, { ...to(ORIGIN_RING.learn), json: membership }).catch(ignoreFailure);
  }
}
