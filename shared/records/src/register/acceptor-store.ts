import { CodedError, laterFormat } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { canonicalJson } from '../core/join.ts';
import type { OnRecord } from '../on-record.ts';
import type { RecordTable } from '../table/record-table.ts';
import {
  type AcceptorState,
  acceptorStep,
  type Ballot,
  EMPTY_ACCEPTOR,
  handedOver,
  type RegisterReply,
  type RegisterRequest,
  repaired,
} from './register.ts';

const MAX_KEY_CHARS = 4096;

/**
 * The acceptors of one origin, or of all that share a table: registers by key, durable before any answer. `space` begins
 * every key in the table.
 */
export class AcceptorStore {
  readonly #space: string;
  readonly #prefix: string;
  readonly #deps: { readonly table: RecordTable; readonly onRecord: OnRecord };

  constructor(deps: { readonly table: RecordTable; readonly onRecord: OnRecord }, space = 'r1') {
    this.#deps = deps;
    this.#space = space;
    this.#prefix = `${space}\0`;
  }

  /** Answers one request of a proposer; requests of one key go one after another. @throws `DISK_FORMAT`, `DISK_CORRUPT` */
  handle(request: RegisterRequest): Promise<RegisterReply> {
    return this.#change(request.key, (state) => {
      const { next, reply } = acceptorStep(state, request, this.#deps.table);
      return { next, answer: reply };
    });
  }

  /** Takes what another owner handed over to a new generation. */
  handOver(key: string, from: AcceptorState): Promise<void> {
    return this.#change(key, (state) => ({ next: handedOver(state, from), answer: undefined }));
  }

  /** Takes what another owner has, by the acceptor's own rules; false if a round must settle the rest. */
  repair(key: string, from: AcceptorState): Promise<boolean> {
    return this.#change(key, (state) => {
      const { next, isWhole } = repaired(state, from);
      return { next, answer: isWhole };
    });
  }

  /**
   * Takes a register off the disk if it still is `known` and `may` says so in the same step: of one that this origin
   * does not own. True if it is gone.
   */
  forget(key: string, known: AcceptorState, may: () => boolean): Promise<boolean> {
    return this.#deps.table.change([this.#prefix + key], ([found]) => {
      if (found === undefined) return { writes: [], answer: true };
      const state = parseState(key, found);
      if (canonicalJson(state) !== canonicalJson(known) || !may()) return { writes: [], answer: false };
      const onDurable = (): void => this.#deps.onRecord(this.#space, key, state, undefined);
      return { writes: [{ type: 'del', key: this.#prefix + key }], answer: true, onDurable };
    });
  }

  /** What this acceptor keeps of a register. */
  async state(key: string): Promise<AcceptorState> {
    return parseState(key, await this.#deps.table.get(this.#prefix + key));
  }

  /** Keys that begin with `prefix`, in order, from behind `prefix + after`; for lists, repair and moves. */
  async *keys(prefix = '', after?: string): AsyncGenerator<string, void, void> {
    const begin = this.#prefix + prefix;
    const lower = after === undefined ? { gte: begin } : { gt: begin + after };
    const range = { ...lower, lt: prefix === '' ? `${this.#space}\x01` : `${begin}\u{10ffff}` };
    for await (const key of this.#deps.table.keys(range)) yield key.slice(this.#prefix.length);
  }

  #change<A>(key: string, step: (state: AcceptorState) => { next: AcceptorState; answer: A }): Promise<A> {
    return this.#deps.table.change([this.#prefix + key], ([found]) => {
      const state = parseState(key, found);
      const { next, answer } = step(state);
      if (next === state) return { writes: [], answer };
      const value = canonicalJson(next);
      if (value === canonicalJson(state)) return { writes: [], answer };
      const before = state === EMPTY_ACCEPTOR ? undefined : state;
      const onDurable = (): void => this.#deps.onRecord(this.#space, key, before, next);
      return { writes: [{ type: 'put', key: this.#prefix + key, value }], answer, onDurable };
    });
  }
}

/** Reads what another owner keeps of a register. @throws `DISK_FORMAT`, `DISK_CORRUPT` */
export function acceptorStateOf(key: string, stored: unknown): AcceptorState {
  return checkedState(key, stored as Partial<AcceptorState> | null);
}

/** Reads a request that came over the network. @throws `REQUEST_INVALID` and nothing else */
export function parseRegisterRequest(input: unknown): RegisterRequest {
  const request = (typeof input === 'object' && input !== null ? input : {}) as Record<string, unknown>;
  const { type, ballot, value } = request;
  const { key: name, epoch = 0 } = request;
  if (!Number.isSafeInteger(epoch) || (epoch as number) < 0) throw invalid('epoch');
  if (typeof name !== 'string' || name === '' || name.length > MAX_KEY_CHARS) throw invalid('key');
  const key = { key: name, ...(epoch === 0 ? {} : { epoch: epoch as number }) };
  if (type === 'read') return { type, ...key };
  if (!isBallot(ballot)) throw invalid('ballot');
  const { counter, proposer } = ballot;
  if (type === 'prepare') return { type, ...key, ballot: { counter, proposer } };
  if (type === 'accept')
    return { type, ...key, ballot: { counter, proposer }, ...(value === undefined ? {} : { value }) };
  throw invalid('type');
}

/** Reads a reply that came over the network. @throws `REQUEST_INVALID` and nothing else */
export function parseRegisterReply(input: unknown): RegisterReply {
  const reply = (typeof input === 'object' && input !== null ? input : {}) as Record<string, unknown>;
  const { type, accepted, promised, value, heard, epoch } = reply;
  if (type === 'accepted') return { type };
  if (type === 'outdated' && Number.isSafeInteger(epoch)) return { type, epoch: epoch as number };
  if (type === 'refused' && isBallot(promised)) return { type, promised };
  if (type === 'state' && isBallot(accepted))
    return {
      type,
      accepted,
      ...(value === undefined ? {} : { value }),
      ...(heard === true ? { heard } : {}),
    };
  throw invalid('reply');
}

function isBallot(value: unknown): value is Ballot {
  const ballot = value as Partial<Ballot> | null;
  if (typeof ballot !== 'object' || ballot === null || typeof ballot.proposer !== 'string') return false;
  return (
    Number.isSafeInteger(ballot.counter) && (ballot.counter as number) >= 0 && ballot.proposer.length <= 256
  );
}

function parseState(key: string, text: string | undefined): AcceptorState {
  if (text === undefined) return EMPTY_ACCEPTOR;
  let state: Partial<AcceptorState> | null;
  try {
    state = JSON.parse(text) as Partial<AcceptorState> | null;
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('DISK_CORRUPT', { detail: { key }, cause });
  }
  return checkedState(key, state);
}

function checkedState(key: string, state: Partial<AcceptorState> | null): AcceptorState {
  if (typeof state?.v === 'number' && (state.v as number) > 1)
    throw laterFormat('a register', state.v, 1, { key });
  if (state?.v !== 1 || !isBallot(state.promised) || !isBallot(state.accepted))
    throw new CodedError('DISK_CORRUPT', { detail: { key } });
  return state as AcceptorState;
}

function invalid(part: string): CodedError {
  return new CodedError('REQUEST_INVALID', {
    message: `register message is not valid: ${part}`,
    detail: { part },
  });
}
