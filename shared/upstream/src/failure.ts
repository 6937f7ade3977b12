import { CodedError, type ErrorCode, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { readLimited } from '@sepia/http/client';
import { contentOf } from './content-coding.ts';
import { type Answer, discard, endSoon, header } from './exchange.ts';
import { retryAfterOf } from './retry-after.ts';

/** Answers of servers to a HEAD that was never built, or tried: they say nothing. */
export const NO_HEAD = [204, 400, 405, 500, 501];
/** Answers to a `Range` of servers that know none, beside 416. */
const NO_RANGES = [400, 501];
/** `detail.reason` of an `UPSTREAM_DENIED` that is not about who asks: other credentials would not help. */
const REQUEST_REFUSED = 'request-refused';
/** `detail.reason` of an `UPSTREAM_DENIED` that the registry did not say: there is nobody to ask it as. */
const UNASKED = 'unasked';
/** `detail.reason` of a `BACKEND_DOWN`: a registry that this one leads to lets nobody in without an account. */
export const DENIED_ELSEWHERE = 'denied-elsewhere';
const MAX_ERROR_BODY_BYTES = 64 * 1024;

/** What was asked for, for the error's code and detail. */
export interface Subject {
  readonly upstream: string;
  readonly repository: string;
  /** Code of a plain 404. */
  readonly unknown: ErrorCode;
  /** Digest, tag or nothing. */
  readonly item?: string;
}

/**
 * The coded error of an answer that is not a success; ends its body. An answer of another host (storage behind
 * a redirect) says nothing about access or existence at the registry: it is `BACKEND_DOWN`.
 */
export async function failureOf(
  answer: Answer,
  subject: Subject,
  context: {
    readonly nowMs: number;
    readonly foreign: boolean;
    /** It came from the same item at another registry. */
    readonly isSame?: boolean;
    readonly isRange?: boolean;
    readonly hadToken?: boolean;
  },
): Promise<CodedError> {
  const { status } = answer;
  const said = await errorBodyOf(answer);
  const retryAfter = retryAfterOf(answer, context.nowMs);
  const isNoRange = context.isRange === true && NO_RANGES.includes(status);
  const code = isNoRange ? 'RANGE_INVALID' : codeOf(status, subject, context.foreign);
  const limited = code === 'UPSTREAM_LIMITED' || (code === 'BACKEND_DOWN' && retryAfter !== undefined);
  return new CodedError(code, {
    message: messageOf(code, answer, said),
    detail: {
      upstream: subject.upstream,
      repository: subject.repository,
      ...(subject.item === undefined ? {} : { reference: subject.item }),
      status,
      host: answer.url.host,
      ...(said.code === undefined ? {} : { upstreamCode: said.code }),
      ...(said.message === undefined ? {} : { upstreamMessage: said.message }),
      ...(code === 'UPSTREAM_DENIED' && status !== 401 && status !== 403 ? { reason: REQUEST_REFUSED } : {}),
      ...(code === 'BACKEND_DOWN' && context.isSame === true && (status === 401 || status === 403)
        ? { reason: DENIED_ELSEWHERE }
        : {}),
      ...(code === 'UPSTREAM_DENIED' && context.hadToken === true ? { hadToken: true } : {}),
      ...(limited ? { retryAfterSeconds: Math.max(1, retryAfter ?? 1) } : {}),
    },
  });
}

function codeOf(status: number, subject: Subject, foreign: boolean): ErrorCode {
  if (status === 429) return 'UPSTREAM_LIMITED';
  if (status === 416) return 'RANGE_INVALID';
  if (foreign || status >= 500 || status === 408 || status === 425 || status < 400) return 'BACKEND_DOWN';
  if (status === 412) return 'UPSTREAM_POLICY';
  return status === 404 || status === 410 ? subject.unknown : 'UPSTREAM_DENIED';
}

function messageOf(code: ErrorCode, answer: Answer, said: Said): string {
  const { host } = answer.url;
  const because = said.message === undefined ? '' : `: ${said.message}`;
  switch (code) {
    case 'UPSTREAM_DENIED':
      return answer.status === 401 || answer.status === 403
        ? `${host} refuses access with the configured credentials (${answer.status})${because}`
        : `${host} refuses the request (${answer.status})${because}`;
    case 'UPSTREAM_POLICY':
      return `${host} refuses it by a policy${said.code === undefined ? '' : ` (${said.code})`}${because}`;
    case 'UPSTREAM_LIMITED':
      return `${host} limits the request rate${because}`;
    case 'BACKEND_DOWN':
      return `${host} answered ${answer.status}${because}`;
    default:
      return `${host} does not have it (${answer.status})${because}`;
  }
}

/** True if the registry refuses the caller (401, 403), not the request itself (451, 406), which is told to clients as it is. */
export function isOfWhoAsks(error: unknown): boolean {
  return isCoded(error, 'UPSTREAM_DENIED') && error.detail['reason'] !== REQUEST_REFUSED;
}

/** As {@link isOfWhoAsks}, of what somebody's credentials got: a registry may say 400 to a token that it cannot read. */
export function isOfCredentials(error: unknown): boolean {
  return isOfWhoAsks(error) || (isCoded(error, 'UPSTREAM_DENIED') && error.detail['status'] === 400);
}

/** Nobody may be asked as: who logs in may help. */
export function unaskedError(upstream: string): CodedError {
  return new CodedError('UPSTREAM_DENIED', { detail: { upstream, status: 401, reason: UNASKED } });
}

/** True if the registry was not asked at all: that is no word of it. */
export function isUnasked(error: unknown): boolean {
  return isCoded(error, 'UPSTREAM_DENIED') && error.detail['reason'] === UNASKED;
}

/** True if a registry that this one redirects to denies access: neither a failure that passes, nor a refusal of the caller. */
export function isDeniedElsewhere(error: unknown): boolean {
  return isCoded(error, 'BACKEND_DOWN') && error.detail['reason'] === DENIED_ELSEWHERE;
}

interface Said {
  readonly code?: string;
  readonly message?: string;
}

/** Code and message of an OCI error body, if it is one; shortened, as they go to clients and logs. */
async function errorBodyOf(answer: Answer): Promise<Said> {
  if (answer.method === 'HEAD' || !/json/i.test(header(answer, 'content-type') ?? '')) {
    discard(answer);
    return {};
  }
  endSoon(answer);
  try {
    const bytes = await readLimited(contentOf(answer), MAX_ERROR_BODY_BYTES, answer.url.host);
    const first = (
      JSON.parse(bytes.toString('utf8')) as { errors?: { code?: unknown; message?: unknown }[] } | null
    )?.errors?.[0];
    return { ...text('code', first?.code, 64), ...text('message', first?.message, 200) };
  } catch (error) {
    throwIfBug(error);
    return {};
  }
}

function text<K extends string>(key: K, value: unknown, limit: number): { [k in K]?: string } {
  return typeof value === 'string' && value !== ''
    ? ({ [key]: value.slice(0, limit) } as { [k in K]: string })
    : {};
}
