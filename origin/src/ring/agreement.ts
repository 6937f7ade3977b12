import { chance } from '@sepia/base/clock/chance';
import { CodedError } from '@sepia/base/errors';
import { ORIGIN_RING } from '@sepia/cluster/api/ring';
import { to } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import { electorate, type Membership } from '@sepia/cluster/membership';
import { MEMBERSHIP_SCHEMA } from '@sepia/cluster/ring-messages';
import { type AcceptorStore, parseRegisterReply } from '@sepia/records/register/acceptor-store';
import type { AcceptorState, RegisterReply, RegisterRequest } from '@sepia/records/register/register';
import { RegisterClient, type SentReply } from '@sepia/records/register/register-client';
import type { Members } from '../cluster/members.ts';
import { QUICK_MS, REGISTER_MS } from '../deadlines/members.ts';
import type { OwnStanding } from '../records/own-standing.ts';

const OPTIONS = { deadlineMs: REGISTER_MS, requestTimeoutMs: QUICK_MS, quorumTries: 3 };

interface AgreementDeps {
  readonly cluster: Pick<Cluster, 'epoch'>;
  readonly members: Pick<Members, 'selfId' | 'counted' | 'isSuspect'>;
  readonly standing: Pick<OwnStanding, 'requireAll' | 'sender'>;
  readonly acceptors: AcceptorStore;
  readonly nowMs: () => number;
}

/**
 * Decides which membership follows one: a register for each epoch, on the owning origins of the membership before, in a
 * change a majority of the old and of the new ones. Written once; whoever comes later gets what was decided.
 */
export class Agreement {
  readonly #deps: AgreementDeps;
  readonly #registers: RegisterClient;

  constructor(deps: AgreementDeps) {
    this.#deps = deps;
    this.#registers = new RegisterClient(
      {
        transport: async (id, request) => await this.#send(id, request),
        chance,
        nowMs: deps.nowMs,
        isSuspect: (id) => deps.members.isSuspect(id),
      },
      { proposerId: deps.members.selfId, ...OPTIONS },
    );
  }

  /** What follows `current`: `next`, unless something else was decided. @throws `QUORUM_LOST`, `CONFLICT` */
  async decide(current: Membership, next: Membership): Promise<Membership> {
    const { sets } = electorate(current);
    const decided = await this.#registers.change<Membership>(
      String(next.epoch),
      () => ({ epoch: 0, sets }),
      (found) => found ?? next,
    );
    return MEMBERSHIP_SCHEMA.parse(decided);
  }

  /**
   * Answers another origin about the epoch after the one that holds here. Of one that is decided, as far as is known
   * here, nothing is promised any more; of a later one not yet, for a handover tells of the next alone.
   * @throws `RECORDS_PENDING`
   */
  async handle(request: RegisterRequest): Promise<RegisterReply> {
    const { cluster, standing, acceptors } = this.#deps;
    standing.requireAll();
    if (!/^\d{1,15}$/.test(request.key))
      throw new CodedError('REQUEST_INVALID', { message: 'key: is no epoch' });
    if (Number(request.key) <= cluster.epoch) return { type: 'outdated', epoch: cluster.epoch };
    if (Number(request.key) > cluster.epoch + 1)
      throw new CodedError('RECORDS_PENDING', {
        message: `membership of epoch ${Number(request.key) - 1} is not known here yet`,
      });
    return await acceptors.handle(request);
  }

  /** What this origin promised and accepted for the epoch that comes next: part of a handover. */
  async next(): Promise<{ readonly key: string; readonly state: AcceptorState }> {
    const key = String(this.#deps.cluster.epoch + 1);
    return { key, state: await this.#deps.acceptors.state(key) };
  }

  async #send(id: string, request: RegisterRequest): Promise<SentReply> {
    const { members, standing } = this.#deps;
    if (id === members.selfId) {
      const reply = await this.handle(request);
      return { ...reply, sender: standing.sender };
    }
    // Under the membership that it follows: the other gets that one first.
    const call = { ...to(ORIGIN_RING.register), json: request, epoch: Number(request.key) - 1 };
    const { sender, answer } = await members.counted<unknown>(id, call);
    return { ...parseRegisterReply(answer), sender };
  }
}
