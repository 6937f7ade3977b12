import { counted, newerOf, type Sender } from '../../src/core/standing.ts';
import {
  agreedState,
  type Ballot,
  compareBallots,
  EMPTY_ACCEPTOR,
  newestValue,
} from '../../src/register/register.ts';
import { faultActions, ringActions } from './faults.ts';
import { formerActions } from './former-steps.ts';
import {
  handOverStep,
  type Member,
  type Message,
  type Reply,
  requestStep,
  senderOf,
  takeOverStep,
} from './member-steps.ts';
import {
  type Action,
  copyOf,
  firstState,
  type Kind,
  keep,
  type ModelState,
  type Proposer,
  send,
  textOf,
} from './model-state.ts';
import { NO_RULE_DROPPED, type Rules, type Scope } from './scope.ts';

/*
 * One register whose value is the list of the changes made, one letter each, on the cores that ship. Of the network
 * nothing is ever taken away: any message may reach anybody at any time, any number of times, or never, which is loss,
 * delay, reordering and repetition in one. So all answers must be prefixes of one list, no letter twice, and none
 * shorter than what was answered before its operation began.
 */

const LETTERS = 'abcdefghijklmnopqrstuvwxyz';

export class RegisterModel {
  bad = '';
  answered = 0;
  readonly rules: Rules;
  readonly scope: Scope;
  readonly state: ModelState;

  constructor(scope: Scope, rules: Partial<Rules> = {}, state?: ModelState) {
    this.scope = scope;
    this.rules = { ...NO_RULE_DROPPED, ...rules };
    this.state = state ?? firstState(scope);
  }

  /** A copy that goes its own way. */
  clone(): RegisterModel {
    const other = new RegisterModel(this.scope, this.rules, copyOf(this.state));
    other.bad = this.bad;
    other.answered = this.answered;
    return other;
  }

  /** Equal for equal states. */
  hash(): string {
    return textOf(this.state);
  }

  /** Everything that may happen now. */
  actions(): Action[] {
    const out: Action[] = [];
    for (const [index, proposer] of this.state.proposers.entries()) this.#proposes(out, index, proposer);
    for (const [text, message] of this.state.net) this.#delivers(out, text, message);
    out.push(
      ...faultActions(this.state, this.scope, this.rules),
      ...ringActions(this.state, this.scope, this.rules),
      ...(this.scope.drops ? formerActions(this.state, this.scope, this.rules) : []),
    );
    return out;
  }

  /** What an operation that ran right now, alone, would see. */
  check(): void {
    if (this.bad !== '') return;
    for (let epoch = 0; epoch <= this.state.ring.epoch; epoch++)
      for (const quorum of this.scope.quorums(epoch, this.rules)) {
        const members = quorum.map((id) => this.state.members.get(id)!);
        const isUp = members.every(
          ({ standing }) =>
            (standing.settled || this.rules.answersEarly) &&
            (standing.epoch <= epoch || this.rules.takesOldEpoch),
        );
        const replies = members.map(({ standing, register }) => ({
          sender: senderOf(standing),
          ...register,
        }));
        if (!isUp || !this.#counts(replies)) continue;
        const list = String(newestValue(replies) ?? '');
        if (!list.startsWith(this.state.floor))
          this.bad = `lost: "${this.state.floor}" was answered, ${quorum} now say "${list}" (epoch ${epoch})`;
      }
  }

  #proposes(out: Action[], index: number, proposer: Proposer): void {
    const { work, attempts, givesUp } = this.scope;
    const kind = work[index]?.[proposer.at];
    const name = `P${index}`;
    const isDue = kind !== 'rewrite' || (this.state.ring.listed && this.state.ring.needed);
    if (proposer.phase === 'idle' && kind !== undefined && isDue)
      out.push([`${name} begins ${kind}`, () => this.#begin(index, proposer, kind), 3]);
    const isOpen = proposer.phase !== 'idle';
    if (isOpen && proposer.tries < attempts) {
      out.push([`${name} tries anew`, () => this.#attempt(index, proposer, false), 0.3]);
      if (this.state.counter > proposer.counter)
        out.push([`${name} tries anew, higher`, () => this.#attempt(index, proposer, true), 0.5]);
    }
    if (isOpen && givesUp && proposer.kind !== 'rewrite')
      out.push([`${name} gives up`, () => this.#end(proposer), 0.1]);
    if (proposer.epoch < this.state.ring.epoch && !(proposer.kind === 'rewrite' && isOpen))
      out.push([`${name} learns epoch ${proposer.epoch + 1}`, () => this.#learn(index, proposer), 0.5]);
    const round = `${proposer.phase} ${index} ${proposer.phase === 'read' ? proposer.at : proposer.counter}`;
    for (const replies of this.#quorums(round, proposer.epoch)) {
      const from = replies.map(({ sender }) => `${sender.id}${sender.generation}`).join(' ');
      if (proposer.phase === 'prepare')
        out.push([`${name} counts promises of ${from}`, () => this.#propose(index, proposer, replies), 3]);
      else if (proposer.phase === 'accept')
        out.push([`${name} is done by ${from}`, () => this.#finish(proposer, proposer.list), 3]);
      else if (proposer.phase === 'read') {
        const agreed = agreedState(
          this.rules.countsHearsay ? replies.map(({ heard: _, ...reply }) => reply) : replies,
          (agreeing) => agreeing.length === replies.length,
        );
        if (agreed !== undefined)
          out.push([
            `${name} reads from ${from}`,
            () => this.#finish(proposer, String(agreed.value ?? '')),
            2,
          ]);
      }
    }
  }

  #begin(index: number, proposer: Proposer, kind: Kind): void {
    Object.assign(proposer, { kind, floor: this.state.floor.length, tries: 0 });
    if (kind === 'rewrite') proposer.epoch = this.state.ring.epoch;
    if (kind === 'append') proposer.letter = LETTERS[this.state.letters++]!;
    if (kind !== 'read') {
      this.#attempt(index, proposer, false);
      return;
    }
    proposer.phase = 'read';
    send(this.state, { type: 'read', round: `read ${index} ${proposer.at}`, epoch: proposer.epoch });
  }

  #attempt(index: number, proposer: Proposer, isHigher: boolean): void {
    proposer.counter = isHigher ? this.state.counter + 1 : proposer.counter + 1;
    this.state.counter = Math.max(this.state.counter, proposer.counter);
    proposer.tries += 1;
    Object.assign(proposer, { phase: 'prepare', list: '' });
    send(this.state, { type: 'prepare', ballot: ballotOf(index, proposer), epoch: proposer.epoch });
  }

  #learn(index: number, proposer: Proposer): void {
    proposer.epoch += 1;
    const { phase, epoch } = proposer;
    const ballot = ballotOf(index, proposer);
    if (phase === 'read') send(this.state, { type: 'read', round: `read ${index} ${proposer.at}`, epoch });
    else if (this.rules.goesOnInNextEpoch) {
      if (phase === 'prepare') send(this.state, { type: 'prepare', ballot, epoch });
      if (phase === 'accept') send(this.state, { type: 'accept', ballot, list: proposer.list, epoch });
    } else if (phase === 'prepare' || phase === 'accept') proposer.phase = 'outdated';
    if (phase !== 'idle' && !this.rules.goesOnInNextEpoch) proposer.tries = Math.max(0, proposer.tries - 1);
  }

  #propose(index: number, proposer: Proposer, replies: readonly Reply[]): void {
    const ballot = ballotOf(index, proposer);
    for (const { sender } of replies)
      if (compareBallots(ballot, this.state.promised.get(sender.id) ?? EMPTY_ACCEPTOR.promised) > 0)
        this.state.promised.set(sender.id, ballot);
    const list = String(newestValue(replies) ?? '');
    const isMade = proposer.kind !== 'append' || list.includes(proposer.letter);
    proposer.list = isMade ? list : list + proposer.letter;
    proposer.phase = 'accept';
    send(this.state, { type: 'accept', ballot, list: proposer.list, epoch: proposer.epoch });
  }

  #finish(proposer: Proposer, list: string): void {
    if (proposer.kind === 'rewrite') this.state.ring.rewritten ||= proposer.epoch === this.state.ring.epoch;
    else {
      if (new Set(list).size !== list.length) this.bad ||= `a change made twice: ${list}`;
      if (proposer.kind === 'append' && !list.includes(proposer.letter))
        this.bad ||= `acknowledged but not there: ${proposer.letter}`;
      if (!list.startsWith(this.state.floor) && !this.state.floor.startsWith(list))
        this.bad ||= `fork: "${this.state.floor}" was answered, now "${list}"`;
      if (list.length < proposer.floor)
        this.bad ||= `lost: ${proposer.floor} changes were answered before, now "${list}"`;
      if (list.length > this.state.floor.length) this.state.floor = list;
      this.answered += 1;
    }
    this.#end(proposer);
  }

  #end(proposer: Proposer): void {
    Object.assign(proposer, { phase: 'idle', at: proposer.at + 1, tries: 0, list: '' });
  }

  #quorums(round: string, epoch: number): Reply[][] {
    const by = new Map<string, Reply[]>();
    for (const message of this.state.net.values()) {
      if (message.type !== 'reply' || message.to !== round) continue;
      if (!this.rules.goesOnInNextEpoch && message.epoch !== epoch) continue;
      by.set(message.sender.id, [...(by.get(message.sender.id) ?? []), message]);
    }
    if (by.size === 0) return [];
    const found: Reply[][] = [];
    for (const quorum of this.scope.quorums(epoch, this.rules)) {
      if (!quorum.every((id) => by.has(id))) continue;
      let rows: Reply[][] = [[]];
      for (const id of quorum) rows = rows.flatMap((row) => by.get(id)!.map((reply) => [...row, reply]));
      found.push(...rows.filter((row) => this.#counts(row)));
    }
    return found;
  }

  #counts(replies: readonly { readonly sender: Sender }[]): boolean {
    return this.rules.mixesGenerations || counted(replies).length === replies.length;
  }

  /** `text`: as the net names it. */
  #delivers(out: Action[], text: string, message: Message): void {
    if (message.type === 'reply') return;
    if (message.type === 'handed') {
      const { id, generation, source } = message;
      const member = this.state.members.get(id)!;
      const { standing } = member;
      if (standing.settled || standing.generation !== generation || standing.handed.includes(source.id))
        return;
      out.push([`${id}${generation} takes over from ${source.id}`, () => this.#takeOver(member, message), 1]);
      return;
    }
    if (message.type === 'wanted' || message.type === 'recorded') {
      for (const [id, member] of this.state.members) {
        if (id === message.id) continue;
        const run =
          message.type === 'wanted' ? this.#handOver(member, message) : this.#record(member, message);
        if (run !== undefined) out.push([`${id} ${message.type} ${message.id}${message.generation}`, run, 1]);
      }
      return;
    }
    const owners = this.scope.sets(message.epoch).flat();
    for (const [id, member] of this.state.members) {
      if (!owners.includes(id)) continue;
      const run = this.#step(member, message);
      if (run !== undefined) out.push([`${id} gets ${text.slice(0, 120)}`, run, 1]);
    }
  }

  /** What a request does at a member; undefined if it would change nothing. */
  #step(
    member: Member,
    message: Extract<Message, { type: 'prepare' | 'accept' | 'read' | 'offer' }>,
  ): (() => void) | undefined {
    const { standing, register } = member;
    const outcome = requestStep(member, message, this.rules);
    if (outcome === undefined) return undefined;
    const { answer } = outcome;
    const isNews = outcome.register !== register || outcome.standing !== standing;
    if (!isNews && answer !== undefined && this.state.net.has(JSON.stringify(answer))) return undefined;
    return () => {
      const floor = this.state.promised.get(standing.id);
      const isBelow =
        message.type === 'accept' && floor !== undefined && compareBallots(message.ballot, floor) < 0;
      if (isBelow && outcome.register !== register)
        this.bad ||= `promise broken: ${standing.id} accepts ${JSON.stringify(message.ballot)} after its promise of ${JSON.stringify(floor)} was counted`;
      keep(member, outcome.standing, outcome.register);
      if (answer !== undefined) send(this.state, answer);
    };
  }

  #handOver(source: Member, wanted: Extract<Message, { type: 'wanted' }>): (() => void) | undefined {
    const handed = handOverStep(source, this.state.members.get(wanted.id)!.standing, wanted, this.rules);
    if (handed === undefined) return undefined;
    const { standing, message } = handed;
    const isNews = JSON.stringify(standing) !== JSON.stringify(source.standing);
    if (!isNews && this.state.net.has(JSON.stringify(message))) return undefined;
    return () => {
      if (isNews) keep(source, standing, source.register);
      send(this.state, message);
    };
  }

  #record(
    member: Member,
    { id, generation }: Extract<Message, { type: 'recorded' }>,
  ): (() => void) | undefined {
    const { standing } = member;
    if ((standing.known[id] ?? 0) >= generation) return undefined;
    return () =>
      keep(member, { ...standing, known: newerOf(standing.known, { [id]: generation }) }, member.register);
  }

  #takeOver(member: Member, message: Extract<Message, { type: 'handed' }>): void {
    const { standing, register } = takeOverStep(
      member,
      message,
      (epoch) => this.scope.sets(epoch),
      this.rules,
    );
    keep(member, standing, register);
    if (standing.settled && this.rules.recordsLater)
      send(this.state, { type: 'recorded', id: standing.id, generation: standing.generation });
  }
}

function ballotOf(index: number, { counter }: Proposer): Ballot {
  return { counter, proposer: String(index) };
}
