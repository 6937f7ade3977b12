import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { CodedError } from '@sepia/base/errors';
import { hmacOf } from '@sepia/base/hmac';
import type { Logger } from '@sepia/base/log';
import { TELL_FULL_EVERY_MS } from './deadlines/sockets.ts';
import { NonceBook } from './nonce-book.ts';
import { OLD_FORM, oldMac } from './sign-old.ts';

/** Version that this build speaks to other members; `N` and `N−1` interoperate. */
export const PROTOCOL_VERSION = 2;

/** How far the date of a signed call may be off, in ms. */
export const SIGN_SKEW_MS = 60_000;
/** So long before this process a call may be dated, in ms, for clocks differ: what is older another process may have taken. */
export const SIGN_EARLY_MS = 2_000;
/** How long a nonce is remembered, in ms: twice the skew, so a replay is always seen. */
export const NONCE_KEEP_MS = 2 * SIGN_SKEW_MS;
/** 15,000 members that call each second, for the time that a nonce is remembered; 64 MiB at most. */
export const MAX_NONCES = 2 ** 21;
/** Headers beside `Sepia-*` that change what a call means. */
const COVERED = new Set([
  ...['accept', 'content-range', 'content-type', 'if-match', 'if-none-match', 'if-range', 'range'],
]);

/**
 * What the signature says of the body: its hash; or, for a stream, its length, where the path names the digest that the
 * bytes must have or a session whose end does; or that it comes chunked, length unknown.
 */
export type SignedBody =
  | { readonly type: 'hash'; readonly hex: string }
  | { readonly type: 'length'; readonly bytes: number }
  | { readonly type: 'chunked' };

type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

/** A call as its signature covers it. `path` is the raw request target with its query; of `headers` what matters is taken. */
export interface SignedCall {
  readonly method: string;
  readonly path: string;
  readonly headers: Headers;
  readonly body: SignedBody;
}

const NONCE_BYTES = 16;
/** Chance for so many nonces is drawn at once: to ask for that of each costs more than what is signed with it. */
const DRAWN_NONCES = 256;
let drawn = Buffer.alloc(0);
let drawnAt = 0;

function newNonce(): string {
  if (drawnAt === drawn.length) {
    drawn = randomBytes(NONCE_BYTES * DRAWN_NONCES);
    drawnAt = 0;
  }
  drawnAt += NONCE_BYTES;
  return drawn.toString('hex', drawnAt - NONCE_BYTES, drawnAt);
}

/** In whose name calls are signed, and with what. */
export interface Signer {
  readonly clusterKey: Uint8Array;
  /** Id of the caller. */
  readonly id: string;
}

/** Who signed a call, and what its signature says of the body. */
export interface Verified {
  readonly caller: string;
  /** Undefined in the old form, which covers the length only; that was checked. */
  readonly body: SignedBody | undefined;
}

/** The part of a signature that covers a body in memory: its SHA-256. */
export function hashOf(body: Uint8Array | string): SignedBody {
  return { type: 'hash', hex: hash('sha256', body, 'hex') };
}

/**
 * Value of `Authorization` for a call to the member `to`:
 * `Sepia v=2,id=…,to=…,date=<ms>,nonce=<hex>,body=sha256:<hex>|length:<n>|chunked,sig=<hex>`, the signature being
 * HMAC-SHA-256(key, "sepia-http-2" ‖ id ‖ to ‖ method ‖ path ‖ date ‖ nonce ‖ body ‖ each covered header as `name:value`,
 * sorted), lines joined by `\n`.
 */
export function signCall(signer: Signer, to: string, call: SignedCall, nowMs: number): string {
  const nonce = newNonce();
  const facts = { id: signer.id, to, date: String(nowMs), nonce };
  const signature = mac(signer.clusterKey, facts, call).toString('hex');
  return `Sepia v=2,id=${facts.id},to=${to},date=${nowMs},nonce=${nonce},body=${bodyText(call.body)},sig=${signature}`;
}

export interface CallVerifierDeps {
  readonly clusterKey: Uint8Array;
  /** Id of this member: calls to another are refused here. */
  readonly selfId: string;
  readonly log?: Logger;
  readonly nowMs?: () => number;
  /** The machine's clock, where it shows another time than `nowMs`. */
  readonly wallMs?: () => number | undefined;
  /** A clock that never goes back, for the nonces. */
  readonly steadyMs?: () => number;
}

export interface CallVerifierOptions {
  /** Takes the former form of signatures too; see ADR 11. */
  readonly oldSignatures?: boolean;
  readonly maxNonces?: number;
}

/** Why a call was refused, for metrics. */
export type RefusedWhy = 'signature' | 'date' | 'recipient' | 'replay' | 'full';

/** Checks signed calls and remembers their nonces; one per process. */
export class CallVerifier {
  readonly #deps: CallVerifierDeps;
  readonly #oldSignatures: boolean;
  readonly #nonces: NonceBook;
  readonly #beganMs: number;
  #tellRefused: (why: RefusedWhy) => void = () => undefined;
  #toldFullMs = Number.NEGATIVE_INFINITY;

  constructor(deps: CallVerifierDeps, options: CallVerifierOptions = {}) {
    this.#deps = deps;
    this.#oldSignatures = options.oldSignatures ?? false;
    this.#nonces = new NonceBook({ keepMs: NONCE_KEEP_MS, max: options.maxNonces ?? MAX_NONCES });
    this.#beganMs = this.#steadyMs();
  }

  /** Nonces remembered now. */
  get nonces(): number {
    return this.#nonces.size;
  }

  /** Calls `tell` with the reason for each call that is refused. */
  onRefused(tell: (why: RefusedWhy) => void): void {
    this.#tellRefused = tell;
  }

  /**
   * Who called, and what the body must be; the caller of this checks the body. `bodyBytes` is the announced length, −1
   * for a chunked body. `onProven` gets what the answer says of this member's clock, refused or not, once it is proven
   * that a member calls. @throws {CodedError} `SIGNATURE_INVALID`, `MEMBER_BUSY` when no more nonces can be remembered
   */
  verify(
    call: Omit<SignedCall, 'body'> & { readonly bodyBytes: number },
    onProven: (clock: string, wall: string | undefined) => void = () => undefined,
  ): Verified {
    const { 'sepia-signature': second, authorization } = call.headers;
    const header = String(second ?? authorization ?? '');
    const old = OLD_FORM.exec(header);
    if (old !== null) return this.#verifyOld(old, call);
    const found =
      /^Sepia v=2,id=([\w.-]{1,128}),to=([\w.-]{1,128}),date=(\d{1,15}),nonce=([0-9a-f]{32}),body=(sha256:[0-9a-f]{64}|length:\d{1,15}|chunked),sig=([0-9a-f]{64})$/.exec(
        header,
      );
    if (found === null) throw this.#bad('signature', formFault(header));
    const [, id = '', to = '', date = '', nonce = '', text = '', signature = ''] = found;
    const body = bodyOf(text);
    const expected = mac(this.#deps.clusterKey, { id, to, date, nonce }, { ...call, body });
    if (!timingSafeEqual(expected, Buffer.from(signature, 'hex')))
      throw this.#bad('signature', 'made with another cluster key, or for another call');
    const { clusterKey, selfId, wallMs } = this.#deps;
    const told = wallMs?.();
    onProven(
      clockAnswer('clock', clusterKey, { id: selfId, nonce, dateMs: this.#nowMs() }),
      told === undefined ? undefined : clockAnswer('wall', clusterKey, { id: selfId, nonce, dateMs: told }),
    );
    this.#checkDate(Number(date));
    this.#checkBegun(Number(date));
    if (to !== this.#deps.selfId)
      throw this.#bad('recipient', `it is for ${to}, this is ${this.#deps.selfId}`);
    this.#takeNonce(nonce);
    return { caller: id, body };
  }

  #verifyOld(found: RegExpExecArray, call: Parameters<CallVerifier['verify']>[0]): Verified {
    const [, id = '', date = '', nonce = '', signature = ''] = found;
    if (!this.#oldSignatures)
      throw this.#bad(
        'signature',
        'it has the form of the former version; set old-signatures while you upgrade',
      );
    this.#checkDate(Number(date));
    const expected = oldMac(this.#deps.clusterKey, { id, date, nonce }, call);
    if (!timingSafeEqual(expected, Buffer.from(signature, 'hex')))
      throw this.#bad('signature', 'made with another cluster key, or for another call');
    this.#takeNonce(nonce);
    return { caller: id, body: undefined };
  }

  #nowMs(): number {
    const { nowMs = Date.now } = this.#deps;
    return nowMs();
  }

  #steadyMs(): number {
    const { steadyMs = () => performance.now() } = this.#deps;
    return steadyMs();
  }

  /** Nonces of calls that are older than this process went with the one before it. */
  #checkBegun(dateMs: number): void {
    if (this.#nowMs() - dateMs <= this.#steadyMs() - this.#beganMs + SIGN_EARLY_MS) return;
    throw this.#bad('date', 'it was made before this member began; make it again');
  }

  #checkDate(dateMs: number): void {
    const offMs = dateMs - this.#nowMs();
    if (Math.abs(offMs) <= SIGN_SKEW_MS) return;
    const off = `${Math.round(Math.abs(offMs) / 1000)} s ${offMs > 0 ? 'ahead of' : 'behind'}`;
    throw this.#bad(
      'date',
      `its date is off by more than 60 s, ${off} this member's clock; check the clocks`,
    );
  }

  #takeNonce(nonce: string): void {
    const { log } = this.#deps;
    const nowMs = this.#steadyMs();
    const answer = this.#nonces.take(nonce, nowMs);
    if (answer === 'new') return;
    if (answer === 'seen') throw this.#bad('replay', 'replayed');
    this.#tellRefused('full');
    if (nowMs - this.#toldFullMs >= TELL_FULL_EVERY_MS) {
      this.#toldFullMs = nowMs;
      log?.error(
        { nonces: this.nonces },
        'too many signed calls within two minutes: further ones are refused',
      );
    }
    throw new CodedError('MEMBER_BUSY', { message: 'too many signed calls within two minutes' });
  }

  #bad(kind: RefusedWhy, why: string): CodedError {
    this.#tellRefused(kind);
    return signatureFault(why);
  }
}

/** A member answers a signed call with the time that it works in, and with its machine's where that is another. */
type ClockKind = 'clock' | 'wall';

/**
 * Value of `Sepia-Clock` and of `Sepia-Wall`: `date=<ms>,sig=<hex>`, the signature being HMAC-SHA-256(key, "sepia-clock-1" or
 * "sepia-wall-1" ‖ id ‖ nonce of the call ‖ date), lines joined by `\n`. The nonce makes it of now.
 */
function clockAnswer(
  kind: ClockKind,
  key: Uint8Array,
  { id, nonce, dateMs }: { readonly id: string; readonly nonce: string; readonly dateMs: number },
): string {
  return `date=${dateMs},sig=${clockMac(kind, key, [id, nonce, String(dateMs)]).toString('hex')}`;
}

type HeaderValue = string | readonly string[] | undefined;

/** The clocks of the member `id` as its answer to the call with this signature says; undefined if that is not proven. */
export function clocksOf(
  key: Uint8Array,
  id: string,
  signature: string,
  { clock, wall }: { readonly clock: HeaderValue; readonly wall?: HeaderValue },
): { readonly dateMs: number; readonly wallMs: number | undefined } | undefined {
  const nonce = /,nonce=([0-9a-f]{32}),/.exec(signature)?.[1];
  if (nonce === undefined) return undefined;
  const dateMs = provenDate('clock', key, [id, nonce], clock);
  return dateMs === undefined ? undefined : { dateMs, wallMs: provenDate('wall', key, [id, nonce], wall) };
}

function provenDate(
  kind: ClockKind,
  key: Uint8Array,
  facts: readonly string[],
  answer: HeaderValue,
): number | undefined {
  const [, date, sig] = /^date=(\d{1,15}),sig=([0-9a-f]{64})$/.exec(String(answer ?? '')) ?? [];
  if (date === undefined || sig === undefined) return undefined;
  const isRight = timingSafeEqual(clockMac(kind, key, [...facts, date]), Buffer.from(sig, 'hex'));
  return isRight ? Number(date) : undefined;
}

/** The date in a value of `Sepia-Clock` or `Sepia-Wall`, which may be anybody's; undefined where there is none. */
export function dateIn(answer: HeaderValue): number | undefined {
  const date = /^date=(\d{1,15}),/.exec(String(answer ?? ''))?.[1];
  return date === undefined ? undefined : Number(date);
}

function clockMac(kind: ClockKind, key: Uint8Array, facts: readonly string[]): Buffer {
  return hmacOf(key, [`sepia-${kind}-1`, ...facts].join('\n'));
}

/** A call that is refused for its signature. */
export function signatureFault(why: string): CodedError {
  return new CodedError('SIGNATURE_INVALID', { message: `internal call refused: ${why}`, detail: { why } });
}

function formFault(header: string): string {
  const version = /^Sepia v=(\d{1,9}),/.exec(header)?.[1];
  if (version === undefined || version === '2') return 'no signature';
  return `its signature has form ${version}, this member knows 2; upgrade one version at a time`;
}

interface Facts {
  readonly id: string;
  readonly to: string;
  readonly date: string;
  readonly nonce: string;
}

function mac(key: Uint8Array, facts: Facts, call: SignedCall): Buffer {
  const { id, to, date, nonce } = facts;
  const lines = ['sepia-http-2', id, to, call.method, call.path, date, nonce, bodyText(call.body)];
  return hmacOf(key, [...lines, ...coveredHeaders(call.headers)].join('\n'));
}

function coveredHeaders(headers: Headers): string[] {
  const covered: string[] = [];
  for (const [spelled, value] of Object.entries(headers)) {
    const name = spelled.toLowerCase();
    if (value === undefined || name === 'sepia-signature') continue;
    if (!name.startsWith('sepia-') && !COVERED.has(name)) continue;
    covered.push(`${name}:${String(Array.isArray(value) ? value.join(', ') : value).trim()}`);
  }
  return covered.sort();
}

function bodyText(body: SignedBody): string {
  if (body.type === 'hash') return `sha256:${body.hex}`;
  return body.type === 'length' ? `length:${body.bytes}` : 'chunked';
}

function bodyOf(text: string): SignedBody {
  const [type, value = ''] = text.split(':');
  if (type === 'sha256') return { type: 'hash', hex: value };
  return type === 'length' ? { type: 'length', bytes: Number(value) } : { type: 'chunked' };
}
