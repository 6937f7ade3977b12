import { answersOf, askAll } from '@sepia/base/async/ask-many';
import { Passes } from '@sepia/base/async/passes';
import { SingleFlight } from '@sepia/base/async/single-flight';
import { CodedError, isCoded } from '@sepia/base/errors';
import { ignoreFailure, logFailure, readElsewhere, throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { ORIGIN_RING, type RingStatus } from '@sepia/cluster/api/ring';
import { to } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import {
  beginChange,
  endChange,
  isMoving,
  type Membership,
  type RingChange,
  refuseOtherRing,
  waitsFor,
} from '@sepia/cluster/membership';
import { RING_ANSWER } from '@sepia/cluster/ring-messages';
import type { InternalClient } from '@sepia/http/client';
import { canonicalJson } from '@sepia/records/core/join';
import type { BlobIndex } from '../blobs/blob-index.ts';
import type { Hints } from '../blobs/hints.ts';
import type { Members } from '../cluster/members.ts';
import { HEARD_REST_MS, IDLE_REST_MS, LEFTOVERS_REST_MS, MOVING_REST_MS } from '../deadlines/members.ts';
import type { Peers } from '../gc/peers.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { Agreement } from './agreement.ts';
import type { FormerRecords } from './former-records.ts';
import type { Leftovers } from './leftovers.ts';
import type { Move } from './move.ts';
import { OtherRings } from './other-rings.ts';
import { checkReady } from './ready.ts';

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
  readonly sweeps: Pick<Peers, 'hold' | 'release'>;
  readonly leftovers: Leftovers;
  readonly formerRecords: FormerRecords;
  readonly log: Logger;
  /** The membership is another one: what follows from it is counted anew. */
  readonly onFollow: () => void;
}

/** The membership of the ring as this origin knows it, its changes, and this origin's part in one. ADR 0025. */
export class Ring {
  readonly #deps: RingDeps;
  readonly #flights = new SingleFlight<string, void>();
  readonly #passes: Passes;
  #turn: Promise<void> = Promise.resolve();
  #waits: readonly string[] = [];
  /** Newest epochs that others named, while they are asked for, and a while after one was not got. */
  readonly #heard = new Map<string, number>();
  #turns = 0;
  readonly #otherRings: OtherRings;

  constructor(deps: RingDeps) {
    this.#deps = deps;
    this.#otherRings = new OtherRings(deps.log);
    this.#passes = new Passes({
      name: 'ring',
      pass: async (signal) => await this.#pass(signal),
      rest: () => this.#restMs,
      log: deps.log,
      failed: 'the ring was not looked after; it is again',
      level: 'debug',
    });
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

  /** Records here that other origins own by now; undefined before all were looked through. */
  get formerRecords(): number | undefined {
    return this.#deps.formerRecords.count;
  }

  /** In words, for `/readyz`: a change under way, or that this origin is drained. */
  get warnings(): string[] {
    const { epoch, change } = this.membership;
    return [...this.#otherRings.warnings, ...this.#stateWarnings(epoch, change)];
  }

  #stateWarnings(epoch: number, change: string | undefined): string[] {
    if (this.#isDrained) {
      return [`drained: this origin keeps nothing for the ring; ${this.#afterDrain}`];
    }
    if (!isMoving(this.membership)) return [];
    const whom = this.#waits.length === 0 ? '' : `; waits for ${this.#waits.join(', ')}`;
    return [`ring change (epoch ${epoch}): ${change}${whom}`];
  }

  get #afterDrain(): string {
    const { members, leftovers } = this.#deps;
    const { count } = leftovers;
    if (count === undefined) return 'whether all of it is with its new owners is being looked through';
    if (count > 0) return `${count} blobs are not confirmed by their new owners yet`;
    return `take it out of the ring with "sepia ring remove ${members.selfId}"`;
  }

  start(): void {
    this.#passes.start();
  }

  async stop(): Promise<void> {
    await this.#passes.stop();
  }

  /**
   * This origin takes part in `membership` from here on, durably; an older one changes nothing. `from`: who named it.
   * @throws `CONFLICT` for another ring: of the same epoch, or of a later one that came from another
   */
  async follow(membership: Membership, from = 'another origin'): Promise<void> {
    const turn = this.#turn.then(async () => await this.#follow(membership, from));
    this.#turn = turn.then(ignoreFailure, ignoreFailure);
    await turn;
  }

  /** What the document says is agreed: all origins are new, or the folder is of a version without memberships. */
  async found(): Promise<void> {
    if (!this.isFounded) await this.follow(this.membership);
  }

  /** Asks the others (or one) for their membership and follows the newest of this ring; others are warned of. */
  async catchUp(ids: readonly string[] = this.#others): Promise<void> {
    // Who knows none yet follows the ring that most name, not that of whoever is heard first.
    const asked = this.isFounded ? ids : [...new Set([...ids, ...this.#others])];
    const ask = async (): Promise<void> => {
      const { signal } = this.#passes;
      const said = await askAll(asked, async (id, over) => await this.#askedOf(id, over), { signal });
      const told = said.flatMap((one) =>
        one.type === 'answer' && one.answer !== undefined ? [{ by: one.by, membership: one.answer }] : [],
      );
      const newest = this.#otherRings.newestOf(this.isFounded ? this.membership : undefined, told);
      if (newest !== undefined && (!this.isFounded || newest.epoch > this.membership.epoch))
        await this.follow(newest);
      if (this.isFounded) for (const one of told) this.#otherRings.compare(this.membership, one);
    };
    await this.#flights.run(asked.join('\n'), ask, this.#passes.signal);
  }

  /** Returns once this origin's membership is at least that of a message. @throws `RECORDS_PENDING` if it does not get it */
  async reach(epoch: number, from?: string): Promise<void> {
    if (this.membership.epoch >= epoch) return;
    if (from !== undefined) await this.catchUp([from]);
    if (this.membership.epoch < epoch) await this.catchUp();
    if (this.membership.epoch >= epoch) return;
    const why = [`membership of epoch ${epoch} is not known here yet`, ...this.#otherRings.warnings];
    throw new CodedError('RECORDS_PENDING', { message: why.join('; ') });
  }

  /** An answer of another origin named a newer epoch. It is asked for once, and again after a rest if it was not got. */
  heard(epoch: number, from: string): void {
    if (epoch <= this.membership.epoch || this.#deps.members.find(from) === undefined) return;
    if (epoch <= (this.#heard.get(from) ?? -1)) return;
    this.#heard.set(from, epoch);
    const again = (): void => {
      if (this.#heard.get(from) === epoch) this.#heard.delete(from);
    };
    const getting = this.reach(epoch, from).then(again, (error: unknown) => {
      logFailure(this.#deps.log, error, 'membership not got', {}, 'debug');
      readElsewhere(pause(HEARD_REST_MS, this.#passes.signal).then(again));
    });
    this.#deps.members.awaits(getting);
  }

  /**
   * Begins a change; it goes on by itself. `epoch`: of the membership that the operator saw.
   * @throws `REQUEST_INVALID`, `RING_CHANGING`, `CONFLICT`, `QUORUM_LOST`, `NOT_IN_RING`
   */
  async change(change: RingChange, epoch: number): Promise<Membership> {
    const { standing, members } = this.#deps;
    if (this.isOutside) throw new CodedError('NOT_IN_RING');
    standing.requireAll();
    await this.catchUp();
    const current = this.membership;
    if (epoch !== current.epoch)
      throw new CodedError('CONFLICT', {
        message: `the ring is at epoch ${current.epoch} by now`,
        detail: { epoch },
      });
    const next = beginChange(current, change);
    await checkReady(this.#deps, { current, next }, this.#passes.signal);
    const hold = `ring-${next.epoch}-${members.selfId}`;
    const decided = await this.#withoutSweeps(hold, async () => {
      const one = await this.#decide(current, next);
      await this.follow(one);
      return one;
    });
    await this.#tell(decided);
    if (canonicalJson(decided) !== canonicalJson(next))
      throw new CodedError('RING_CHANGING', { detail: { epoch: decided.epoch, change: decided.change } });
    return decided;
  }

  status(): RingStatus {
    const { members, standing, move, index, hints, leftovers } = this.#deps;
    const { epoch } = this.membership;
    const moving = isMoving(this.membership);
    const isDone = !moving || move.isDone(epoch);
    return {
      id: members.selfId,
      epoch,
      generation: standing.standing.generation,
      isSettled: standing.isSettled,
      isDone,
      hasLed: move.hasLed,
      ...(moving && !isDone && move.doing !== '' ? { doing: move.doing } : {}),
      share: isDone ? 1 : move.share,
      registers: moving ? move.registers : 0,
      blobsOwed: index.wanted,
      copiesOwed: hints.size,
      ...(leftovers.count === undefined ? {} : { leftovers: leftovers.count }),
      ...(this.formerRecords === undefined ? {} : { formerRecords: this.formerRecords }),
      knowsFloors: true,
      knowsSharedFloors: true,
    };
  }

  get #isDrained(): boolean {
    const { members } = this.#deps;
    return !isMoving(this.membership) && members.find(members.selfId)?.state === 'draining';
  }

  get #others(): string[] {
    const { cluster, members } = this.#deps;
    return cluster
      .members('origin')
      .map(({ id }) => id)
      .filter((id) => id !== members.selfId);
  }

  async #follow(membership: Membership, from: string): Promise<void> {
    const { cluster, standing, log } = this.#deps;
    if (this.isFounded) refuseOtherRing(this.membership, membership, from);
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
    this.#otherRings.clear();
    this.#deps.onFollow();
    this.#passes.wake();
  }

  async #askedOf(id: string, signal: AbortSignal): Promise<Membership | undefined> {
    const call = { ...to(ORIGIN_RING.membership), signal };
    const told = RING_ANSWER.safeParse(await this.#deps.members.json(id, call));
    return told.data?.founded === true ? told.data.membership : undefined;
  }

  /**
   * Runs `work` while no garbage is collected anywhere; from the change on each member refuses a sweep by itself.
   * @throws `CONFLICT` while a sweep runs
   */
  async #withoutSweeps<T>(generation: string, work: () => Promise<T>): Promise<T> {
    const { sweeps } = this.#deps;
    try {
      await sweeps.hold(generation);
      return await work();
    } catch (error) {
      if (!isCoded(error, 'GC_REFUSED')) throw error;
      throw new CodedError('CONFLICT', {
        message:
          'ring: garbage is being collected; try again when that is done ("sepia gc" says how far it is)',
        cause: error,
      });
    } finally {
      // Who does not answer lifts its fence by the clock.
      sweeps
        .release(generation)
        .catch((error: unknown) =>
          logFailure(this.#deps.log, error, 'a fence is not lifted yet', {}, 'debug'),
        );
    }
  }

  /** Decides the membership after `current`. Origins that already follow a later one do not vote: that one is the decision. */
  async #decide(current: Membership, next: Membership): Promise<Membership> {
    try {
      return await this.#deps.agreement.decide(current, next);
    } catch (error) {
      throwIfBug(error);
      await this.catchUp();
      if (this.membership.epoch === current.epoch) throw error;
      return this.membership;
    }
  }

  async #tell(membership: Membership): Promise<void> {
    await askAll(this.#others, async (id) => await this.#tellOne(id, membership));
  }

  async #pass(signal: AbortSignal): Promise<void> {
    if (isMoving(this.membership)) await this.#advance(this.membership);
    else await this.#settled(signal);
  }

  get #restMs(): number {
    if (isMoving(this.membership)) return MOVING_REST_MS;
    const isTidy = this.#deps.leftovers.count === 0 && this.formerRecords !== undefined;
    return isTidy ? IDLE_REST_MS : LEFTOVERS_REST_MS;
  }

  /** While no change is under way: whether the others are of the same mind, and what moved away. */
  async #settled(signal: AbortSignal): Promise<void> {
    if (this.isFounded && !this.isOutside) await this.catchUp();
    await this.#deps.leftovers.tidy(signal);
    // Never beside this origin's part of a change: what that takes over may have to be here.
    await this.#deps.formerRecords.tidy(signal);
  }

  /** This origin's part, then the end of the change once everybody's is done. */
  async #advance(membership: Membership): Promise<void> {
    const { standing, move, members } = this.#deps;
    if (!standing.isSettled || this.isOutside) return;
    await move.run(membership, this.#passes.signal);
    const ids = members.ids;
    const call = to(ORIGIN_RING.status);
    const said = await askAll(
      ids,
      async (id, signal) =>
        id === members.selfId ? this.status() : await members.json<RingStatus>(id, { ...call, signal }),
      { signal: this.#passes.signal },
    );
    const told = answersOf(said);
    const newer = told.find(({ epoch }) => epoch > membership.epoch);
    if (newer !== undefined) return await this.reach(newer.epoch, newer.id);
    this.#waits = waitsFor(membership, told);
    for (const { id, epoch } of told) if (epoch < membership.epoch) await this.#tellOne(id, membership);
    if (this.#waits.length > 0) return;
    this.#turns += 1;
    const [first] = members.order([...ids].sort());
    if (first !== members.selfId && this.#turns < TURNS) return;
    const decided = await this.#decide(membership, endChange(membership));
    await this.follow(decided);
    await this.#tell(decided);
  }

  async #tellOne(id: string, membership: Membership): Promise<void> {
    const { members, log } = this.#deps;
    const told = members.json(id, { ...to(ORIGIN_RING.learn), json: membership });
    await told.catch((error: unknown) => {
      const level = isCoded(error, 'CONFLICT') ? 'error' : 'debug';
      logFailure(log, error, 'another origin does not follow the membership', { id }, level);
    });
  }
}
