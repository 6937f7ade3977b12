/** Upstream that a signed `/v2` call of an agent means. */
export const H_UPSTREAM = 'sepia-upstream';
/** Version of the cluster document that the answering member uses. */
export const H_CLUSTER = 'sepia-cluster';
/** Epoch of the ring's membership: of a message, what it counts under; of an origin's answer, what holds there. */
export const H_EPOCH = 'sepia-epoch';
/** Age in seconds of a tag that is served although the upstream does not confirm it. */
export const H_STALE = 'sepia-stale';
/** Bytes of a blob, where `content-length` is that of the answer. */
export const H_BLOB_SIZE = 'sepia-blob-size';
/** Root of the SHA-256 tree over one piece, 64 hex, as the answering origin vouches for it. */
export const H_PIECE_HASH = 'sepia-piece-hash';
/** Attempt that a piece belongs to (32 hex; all zero once the whole digest was verified). */
export const H_ATTEMPT = 'sepia-attempt';
/** Of a blob's copy: `pushed` for one that is acknowledged to its pusher, `cached` for one that may be evicted. */
export const H_CLASS = 'sepia-class';
/** Type that a blob was stored under as a manifest, of a copy and of an answer; others have none. */
export const H_MEDIA_TYPE = 'sepia-media-type';
/** Repositories that brought a copied blob: `UPSTREAM/REPOSITORY`, with commas between them. */
export const H_BROUGHT = 'sepia-brought';
/** Header of a blob's copy: links that the receiver stores as an owner of the repository, under one clock (JSON). */
export const H_LINKS = 'sepia-links';
/** A client's own `Authorization` on its way to the upstream or to a proxy's accounts: of this call, never kept or logged. */
export const H_UPSTREAM_AUTHORIZATION = 'sepia-upstream-authorization';
/** Id of one change of a tag: a proxy sends the same to every origin that it tries, so that it is made once. */
export const H_CHANGE = 'sepia-change';
/** Engine that the calling origin keeps records in, `embedded` unless it is told another: origins of one cluster have the same. */
export const H_RECORDS = 'sepia-records';
/** Generation of the answering origin and those that it knows of the others (JSON): what it says counts by it. */
export const H_STANDING = 'sepia-standing';
/** Of any value: the member that calls asked around itself, so that an origin asks no other in turn. */
export const H_HOP = 'sepia-hop';
