/** How an error code appears outside: its OCI code, HTTP status and whether trying again can help. */
interface ErrorFacts {
  /** Code in the OCI error body (distribution-spec, "Error Codes"; two are our own, see `docs/adr/0001`). */
  readonly oci: string;
  readonly status: number;
  readonly retryable: boolean;
  readonly message: string;
}

/**
 * Every error code of Sepia. Codes never change meaning; messages may.
 * The doc line of a code is its `message`; `docs/errors.md` is made from this table.
 */
export const ERROR_TABLE = {
  BLOB_UNKNOWN: f('BLOB_UNKNOWN', 404, false, 'blob unknown to this repository'),
  MANIFEST_UNKNOWN: f('MANIFEST_UNKNOWN', 404, false, 'manifest unknown to this repository'),
  TAG_UNKNOWN: f('MANIFEST_UNKNOWN', 404, false, 'tag unknown to this repository'),
  REPOSITORY_UNKNOWN: f('NAME_UNKNOWN', 404, false, 'repository unknown'),
  UPSTREAM_UNKNOWN: f(
    'NAME_UNKNOWN',
    404,
    false,
    'no upstream answers to this name; add it to `hosts` of an upstream',
  ),
  UPLOAD_UNKNOWN: f(
    'BLOB_UPLOAD_UNKNOWN',
    404,
    false,
    'upload session unknown or lost; begin the push again',
  ),
  UPLOAD_OUT_OF_ORDER: f('BLOB_UPLOAD_INVALID', 416, false, 'chunk does not start where the upload ends'),
  UPLOAD_INVALID: f('BLOB_UPLOAD_INVALID', 400, false, 'upload request is not valid'),
  NAME_INVALID: f('NAME_INVALID', 400, false, 'repository name is not valid'),
  TAG_INVALID: f('NAME_INVALID', 400, false, 'tag is not valid'),
  DIGEST_SYNTAX: f(
    'DIGEST_INVALID',
    400,
    false,
    'digest is not valid; expected sha256:<64 hex> or sha512:<128 hex>',
  ),
  DIGEST_MISMATCH: f('DIGEST_INVALID', 400, false, 'content does not match its digest'),
  SIZE_MISMATCH: f('SIZE_INVALID', 400, false, 'content does not have the announced length'),
  MANIFEST_SYNTAX: f('MANIFEST_INVALID', 400, false, 'manifest is not valid'),
  MANIFEST_TOO_LARGE: f('MANIFEST_INVALID', 413, false, 'manifest is larger than 4 MiB'),
  MANIFEST_BLOB_MISSING: f(
    'MANIFEST_BLOB_UNKNOWN',
    400,
    false,
    'manifest names content that this repository does not have',
  ),
  COMMAND_UNKNOWN: f('UNSUPPORTED', 404, false, 'command or job is not known here'),
  JOB_UNKNOWN: f('UNSUPPORTED', 404, false, 'no such job is on record'),
  JOB_ENDED: f('UNSUPPORTED', 409, false, 'job has ended already'),
  JOB_REPLACED: f('UNSUPPORTED', 409, false, 'a newer job is about the same'),
  RANGE_INVALID: f('UNSUPPORTED', 416, false, 'requested range lies outside the content'),
  AUTH_REQUIRED: f('UNAUTHORIZED', 401, false, 'authentication required'),
  AUTH_DENIED: f('DENIED', 403, false, 'access denied'),
  UPSTREAM_READ_ONLY: f('DENIED', 403, false, 'upstream takes no pushes; use one of mode none or write-back'),
  SIGNATURE_INVALID: f(
    'DENIED',
    403,
    false,
    'internal call is not signed with this cluster key; check cluster-key-file and clocks',
  ),
  TLS_REQUIRED: f('DENIED', 400, false, 'this endpoint speaks HTTPS alone'),
  METHOD_UNSUPPORTED: f('UNSUPPORTED', 405, false, 'operation not supported here'),
  ROUTE_UNKNOWN: f('UNSUPPORTED', 404, false, 'no such route'),
  REQUEST_INVALID: f('UNSUPPORTED', 400, false, 'request is not valid'),
  HOST_UNKNOWN: f('DENIED', 421, false, 'this member is not asked by that host name'),
  REQUEST_TOO_LARGE: f('SIZE_INVALID', 413, false, 'request body is too large'),
  OVERLOADED: f(
    'TOOMANYREQUESTS',
    429,
    true,
    'too many at once, here or at the registry behind; try again later',
  ),
  NO_PEERS: f('UNAVAILABLE', 503, true, 'no source can serve this content now'),
  BACKEND_DOWN: f('UNAVAILABLE', 503, true, 'upstream registry does not answer'),
  UPSTREAM_DENIED: f('DENIED', 403, false, 'upstream registry refuses access'),
  UPSTREAM_POLICY: f('DENIED', 412, false, 'upstream registry refuses this content by a policy of its own'),
  UPSTREAM_LIMITED: f('UNAVAILABLE', 503, true, 'upstream registry limits the request rate'),
  UPSTREAM_LIES: f(
    'UNAVAILABLE',
    502,
    true,
    'upstream registry, or its backend, sent content that does not match its digest',
  ),
  QUORUM_LOST: f('UNAVAILABLE', 503, true, 'too few origins answer to decide'),
  CONFLICT: f('UNAVAILABLE', 503, true, 'concurrent writers got in the way; try again'),
  WRITE_BACK_CONFLICT: f(
    'DENIED',
    409,
    false,
    'tag was changed at the registry behind while a push of it waited',
  ),
  QUOTA_EXCEEDED: f('DENIED', 403, false, 'repository is over its quota'),
  CONTENT_SWEPT: f(
    'UNAVAILABLE',
    503,
    true,
    'content that nothing referred to is being collected at this moment; repeat the push',
  ),
  GC_REFUSED: f('UNAVAILABLE', 503, false, 'garbage is not collected now'),
  TAG_IMMUTABLE: f('DENIED', 403, false, 'tag is immutable and points elsewhere'),
  MEMBER_BUSY: f('UNAVAILABLE', 503, true, 'this member takes no further calls now'),
  DRAINING: f('UNAVAILABLE', 503, true, 'this member is stopping'),
  TIMEOUT: f('UNAVAILABLE', 503, true, 'no progress within the deadline'),
  DISK_FULL: f('UNAVAILABLE', 503, true, 'disk is full'),
  DISK_FAILED: f('UNAVAILABLE', 503, true, 'disk takes no writes'),
  DISK_CORRUPT: f('UNAVAILABLE', 503, true, 'content on disk is damaged'),
  DISK_FORMAT: f('UNKNOWN', 500, false, 'data folder has a format that this version does not read'),
  CONFIG_INVALID: f('UNKNOWN', 500, false, 'configuration is not valid'),
  START_FAILED: f('UNKNOWN', 500, false, 'start is not possible'),
  WIRE_INVALID: f('UNKNOWN', 500, false, 'peer broke the wire protocol'),
  METAINFO_INVALID: f('UNKNOWN', 500, false, 'metainfo is not valid'),
  PIECE_BAD: f('UNAVAILABLE', 503, true, 'piece does not match its hash'),
  STALE_ATTEMPT: f('UNAVAILABLE', 503, true, 'the attempt to fetch this content was dropped'),
  CONVERT_FAILED: f('UNKNOWN', 500, false, 'image was not converted'),
  LAYER_INVALID: f('UNKNOWN', 500, false, 'layer is not a valid archive'),
  LAYER_NOT_LAZY: f(
    'UNKNOWN',
    500,
    false,
    'layer cannot be read before it is downloaded; it is pulled whole',
  ),
  IMAGE_NOT_MOUNTED: f(
    'UNAVAILABLE',
    503,
    true,
    'Nydus image, which no runtime unpacks, and which the snapshotter of this node does not mount (yet); the message says why',
  ),
  LAYER_UNPROVEN: f(
    'UNAVAILABLE',
    503,
    true,
    'image names the layer of another image by its diffID, and its own layer is not known to hold the same',
  ),
  SNAPSHOT_UNKNOWN: f('UNSUPPORTED', 404, false, 'no such snapshot'),
  SNAPSHOT_EXISTS: f('UNSUPPORTED', 409, false, 'snapshot is there already'),
  SNAPSHOT_STATE: f('UNSUPPORTED', 409, false, 'snapshot is not in a state for this'),
  INDEX_INVALID: f('UNKNOWN', 500, false, 'layer index is not valid; make it again'),
  RING_CHANGING: f('UNAVAILABLE', 503, true, 'another ring change is under way; see sepia ring status'),
  EPOCH_OUTDATED: f(
    'UNAVAILABLE',
    503,
    true,
    'the ring changed meanwhile; asked again under the new membership',
  ),
  NOT_IN_RING: f(
    'UNAVAILABLE',
    503,
    true,
    'this origin is not in the ring; add it with sepia ring add, or stop it',
  ),
  RECORDS_PENDING: f(
    'UNAVAILABLE',
    503,
    true,
    'this origin has not got its records back from the other origins yet; see /readyz of its admin address',
  ),
  REGISTRY_DOWN: f('UNAVAILABLE', 503, true, 'registry does not answer, or not as registries do'),
  PEER_HTTP: f('UNAVAILABLE', 503, true, 'another member answered with an error'),
  INTERNAL: f('UNKNOWN', 500, false, 'internal error'),
} as const satisfies Record<string, ErrorFacts>;

/** A key of {@link ERROR_TABLE}: what callers branch on, and what members tell each other. */
export type ErrorCode = keyof typeof ERROR_TABLE;

/** Evidence beside a code: numbers, digests, names. Never secrets: it is shown to clients unless the status is 500. */
export type ErrorDetail = Readonly<Record<string, unknown>>;

interface CodedErrorInit {
  readonly message?: string;
  readonly detail?: ErrorDetail;
  readonly cause?: unknown;
}

/** The one error class for everything that can go wrong outside our own code. Branch on `code`, never on the text. */
export class CodedError extends Error {
  override readonly name = 'CodedError';
  readonly code: ErrorCode;
  readonly detail: ErrorDetail;

  constructor(code: ErrorCode, init: CodedErrorInit = {}) {
    super(
      init.message ?? ERROR_TABLE[code].message,
      init.cause === undefined ? undefined : { cause: init.cause },
    );
    this.code = code;
    this.detail = init.detail ?? {};
  }

  get facts(): ErrorFacts {
    return ERROR_TABLE[this.code];
  }
}

/** What is kept has a form that this version does not read: `what` names it, `known` is the latest form that is read. */
export function laterFormat(what: string, found: unknown, known: number, detail: ErrorDetail): CodedError {
  return new CodedError('DISK_FORMAT', {
    message: `${what} has form ${String(found)}, this version of Sepia reads ${known}: start the version that wrote it (docs/operations.md, "An upgrade, in order")`,
    detail: { ...detail, found, known },
  });
}

/** True if `error` is a {@link CodedError}, of `code` if one is given. */
export function isCoded(error: unknown, code?: ErrorCode): error is CodedError {
  return error instanceof CodedError && (code === undefined || error.code === code);
}

/** `detail.reason` of a `BACKEND_DOWN` that asking again does not change: the registry leads where nobody is sent. */
export const REDIRECT_REFUSED = 'redirect-refused';
/** The same, of a blob that the registry states to be larger than any that is kept. */
export const BLOB_TOO_LARGE = 'blob-too-large';

/** `detail.reason` of an `UPSTREAM_DENIED` because a token service stands where nobody is sent. */
export const ADDRESS_REFUSED = 'address-refused';
/** `detail.reason` of an `UPSTREAM_DENIED` because a token service is not one that a password is shown to. */
export const NOT_SHOWN = 'not-shown';

/** True for a refusal that says nothing about the password that was brought: nobody looked at it. */
export function isUnjudged(error: CodedError): boolean {
  return (
    error.code === 'UPSTREAM_DENIED' && [ADDRESS_REFUSED, NOT_SHOWN].includes(String(error.detail['reason']))
  );
}

/** True where a disk takes no writes: it is full, read-only or fails. What is to be kept goes on elsewhere, or by it. */
export function takesNoWrites(error: unknown): error is CodedError {
  return isCoded(error, 'DISK_FULL') || isCoded(error, 'DISK_FAILED');
}

/**
 * True for an error of the upstream that the fetching origin reports at the end of its own deadline: another member
 * would only begin to wait anew.
 */
export function isUpstreamFailure(error: unknown): error is CodedError {
  return (
    isCoded(error, 'BACKEND_DOWN') || isCoded(error, 'UPSTREAM_LIMITED') || isCoded(error, 'UPSTREAM_LIES')
  );
}

/** True if a string is a known code (errors of other members arrive as text). */
export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_TABLE, code);
}

/** What to do where a process may open no file more. */
export const RAISE_LIMIT = 'raise the limit of open files (LimitNOFILE of systemd, ulimit -n)';

/** What a system says where there is no room: on its disk, in a quota, for a file of that length. */
const NO_ROOM = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/** True for what a system says where it has no room for what is written. */
export function isOutOfRoom(error: unknown): boolean {
  return NO_ROOM.has(systemCode(error) ?? '');
}

/** The system error code (`ENOENT`, `ECONNREFUSED`) of anything thrown, or undefined. */
export function systemCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' ? code : undefined;
}

function f(oci: string, status: number, retryable: boolean, message: string): ErrorFacts {
  return { oci, status, retryable, message };
}
