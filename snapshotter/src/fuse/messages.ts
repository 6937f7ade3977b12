/** Operations that the kernel sends (Linux `include/uapi/linux/fuse.h`, `enum fuse_opcode`); the rest is not supported. */
export const OP = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  open: 14,
  read: 15,
  statfs: 17,
  release: 18,
  flush: 25,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  interrupt: 36,
  destroy: 38,
  batchForget: 42,
} as const;

/** Error numbers of Linux, as FUSE wants them: negative. */
export const ERRNO = { ENOENT: -2, EIO: -5, ENOTDIR: -20, EROFS: -30, ENOSYS: -38 } as const;

/** `fuse_in_header` (Linux `include/uapi/linux/fuse.h`). */
const IN_HEADER_BYTES = 40;
/** `fuse_out_header`. */
const OUT_HEADER_BYTES = 16;
/** Longest read that we let the kernel ask for. */
const MAX_READ_BYTES = 1024 * 1024;
/** The kernel wants room for its largest write besides the header, whatever it sends. */
export const REQUEST_BUFFER_BYTES = MAX_READ_BYTES + 64 * 1024;
/** The root's node id as the wire has it, in hex. */
export const ROOT_KEY = '0100000000000000';

const VERSION = { major: 7, minor: 41 };
const FLAG_ASYNC_READ = 1;
const FLAG_PARALLEL_DIROPS = 1 << 18;
const FLAG_MAX_PAGES = 1 << 22;
const FLAG_INIT_EXT = 1 << 30;
/** Bit 39: requests may be sent again to a new server, marked by the highest bit of their number. */
const FLAG2_HAS_RESEND = 1 << 7;
const NOTIFY_RESEND = 7;
const ATTR_BYTES = 88;
/** A file is the whole of a layer, of a private image too: who mounts it is root, and nobody else reads it. */
const FILE_MODE = 0o400;
const ROOT_MODE = 0o500;
const ENTRY_SECONDS = 1;
const ATTR_SECONDS = 3600;
const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const BLOCK = 4096;

/** A file as its attributes show it. `key`: its node id in hex as the wire has it. */
export interface FileFacts {
  readonly key: string;
  readonly name: string;
  readonly sizeBytes: number;
}

/** The head of a request: `{u32 len, u32 opcode, u64 unique, u64 nodeid, u32 uid, gid, pid, …}`. */
export interface Request {
  readonly op: number;
  /** 8 bytes, echoed as they are: resent requests have the highest bit set. */
  readonly unique: Buffer;
  readonly key: string;
  readonly body: Buffer;
}

/** Views into `bytes`. */
export function parseRequest(bytes: Buffer): Request {
  return {
    op: bytes.readUInt32LE(4),
    unique: bytes.subarray(8, 16),
    key: bytes.toString('hex', 16, 24),
    body: bytes.subarray(IN_HEADER_BYTES),
  };
}

/** `{u32 len, s32 error, u64 unique}` before a body of `length` bytes. */
export function replyHeader(unique: Uint8Array, error: number, length: number): Buffer {
  const header = Buffer.allocUnsafe(OUT_HEADER_BYTES);
  header.writeUInt32LE(OUT_HEADER_BYTES + length, 0);
  header.writeInt32LE(error, 4);
  header.set(unique, 8);
  return header;
}

/** Asks the kernel to send again what was taken and not answered. */
export function resendNotice(): Buffer {
  return replyHeader(new Uint8Array(8), NOTIFY_RESEND, 0);
}

/** Answer to INIT; the kernel's older version wins by itself. */
export function initReply(body: Buffer): Buffer {
  const flags = body.readUInt32LE(12);
  const reply = Buffer.alloc(64);
  reply.writeUInt32LE(VERSION.major, 0);
  reply.writeUInt32LE(Math.min(VERSION.minor, body.readUInt32LE(4)), 4);
  reply.writeUInt32LE(MAX_READ_BYTES, 8);
  const wanted = FLAG_ASYNC_READ | FLAG_PARALLEL_DIROPS | FLAG_MAX_PAGES | FLAG_INIT_EXT;
  reply.writeUInt32LE((flags & wanted) >>> 0, 12);
  reply.writeUInt16LE(64, 16);
  reply.writeUInt16LE(48, 18);
  reply.writeUInt32LE(4096, 20);
  reply.writeUInt32LE(1, 24);
  reply.writeUInt16LE(MAX_READ_BYTES / BLOCK, 28);
  const flags2 = (flags & FLAG_INIT_EXT) === 0 ? 0 : body.readUInt32LE(16);
  reply.writeUInt32LE((flags2 & FLAG2_HAS_RESEND) >>> 0, 32);
  return reply;
}

/** `fuse_entry_out`: a name was found. */
export function entryReply(file: FileFacts): Buffer {
  const reply = Buffer.alloc(40 + ATTR_BYTES);
  reply.write(file.key, 0, 'hex');
  reply.writeUInt32LE(ENTRY_SECONDS, 16);
  reply.writeUInt32LE(ATTR_SECONDS, 24);
  putAttr(reply, 40, file.key, S_IFREG | FILE_MODE, file.sizeBytes);
  return reply;
}

/** `fuse_attr_out`; undefined means the root. */
export function attrReply(file: FileFacts | undefined): Buffer {
  const reply = Buffer.alloc(16 + ATTR_BYTES);
  reply.writeUInt32LE(file === undefined ? ENTRY_SECONDS : ATTR_SECONDS, 0);
  if (file === undefined) putAttr(reply, 16, ROOT_KEY, S_IFDIR | ROOT_MODE, 0);
  else putAttr(reply, 16, file.key, S_IFREG | FILE_MODE, file.sizeBytes);
  return reply;
}

/** `fuse_open_out` of a directory: no handle, nothing cached. */
export function openReply(): Buffer {
  return Buffer.alloc(16);
}

/** The body of an answer to `FUSE_STATFS`: a read-only file system of so many files. */
export function statfsReply(files: number): Buffer {
  const reply = Buffer.alloc(80);
  reply.writeUInt32LE(files, 24);
  reply.writeUInt32LE(BLOCK, 40);
  reply.writeUInt32LE(255, 44);
  reply.writeUInt32LE(BLOCK, 48);
  return reply;
}

/** Offset and size of a read (`fuse_read_in`). */
export function parseRead(body: Buffer): { offset: number; size: number } {
  return {
    offset: body.readUInt32LE(8) + body.readUInt32LE(12) * 2 ** 32,
    size: Math.min(body.readUInt32LE(16), MAX_READ_BYTES),
  };
}

/** Entries of the root from `offset` (an index) on that fit `size` bytes. */
export function readdirReply(files: readonly FileFacts[], offset: number, size: number): Buffer {
  const parts: Buffer[] = [];
  let left = size;
  for (let index = offset; index < files.length + 2; index++) {
    const file = index < 2 ? undefined : files[index - 2]!;
    const name = Buffer.from(file === undefined ? '..'.slice(1 - index) : file.name, 'latin1');
    const bytes = Math.ceil((24 + name.length) / 8) * 8;
    if (bytes > left) break;
    const entry = Buffer.alloc(bytes);
    entry.write(file?.key ?? ROOT_KEY, 0, 'hex');
    entry.writeUInt32LE(index + 1, 8);
    entry.writeUInt32LE(name.length, 16);
    entry.writeUInt32LE((file === undefined ? S_IFDIR : S_IFREG) >> 12, 20);
    name.copy(entry, 24);
    parts.push(entry);
    left -= bytes;
  }
  return Buffer.concat(parts);
}

/** A name from a LOOKUP, without its NUL. */
export function parseName(body: Buffer): string {
  const end = body.indexOf(0);
  return body.toString('latin1', 0, end < 0 ? body.length : end);
}

function putAttr(reply: Buffer, at: number, key: string, mode: number, sizeBytes: number): void {
  reply.write(key, at, 'hex');
  reply.writeUInt32LE(sizeBytes % 2 ** 32, at + 8);
  reply.writeUInt32LE(Math.floor(sizeBytes / 2 ** 32), at + 12);
  reply.writeUInt32LE(Math.ceil(sizeBytes / 512), at + 16);
  reply.writeUInt32LE(mode, at + 60);
  reply.writeUInt32LE(1, at + 64);
  reply.writeUInt32LE(BLOCK, at + 80);
}
