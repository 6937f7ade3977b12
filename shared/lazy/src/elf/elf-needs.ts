/** What a program needs before its first instruction. */
export interface ElfNeeds {
  /** Path of the dynamic linker; undefined where the file is linked statically. */
  readonly interpreter: string | undefined;
  /** Names of libraries (`DT_NEEDED`), in their order. */
  readonly libraries: readonly string[];
  /** Folders that are searched first (`DT_RUNPATH`, else `DT_RPATH`); `$ORIGIN` as it stands there. */
  readonly folders: readonly string[];
  /** `e_machine`: 62 is x86-64, 183 is AArch64. */
  readonly machine: number;
}

/** The bytes `[offset, offset + length)` of a file; fewer where it ends before. */
type ReadFile = (offset: number, length: number) => Promise<Uint8Array>;

const MAGIC = 0x7f_45_4c_46;
const HEADER_BYTES = 64;
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const DT_NEEDED = 1;
const DT_STRTAB = 5;
const DT_STRSZ = 10;
const DT_RPATH = 15;
const DT_RUNPATH = 29;
const MAX_SEGMENTS = 64;
const MAX_DYNAMIC_BYTES = 64 * 1024;
const MAX_STRINGS_BYTES = 1024 * 1024;
const MAX_PATH_BYTES = 4096;
const MAX_LIBRARIES = 256;

/** A field reader for one class and byte order. */
interface Fields {
  readonly is64: boolean;
  u16(bytes: Buffer, at: number): number;
  u32(bytes: Buffer, at: number): number;
  /** An address or a size of the file's class; what is above 2^53 is not exact, and lies in no segment. */
  word(bytes: Buffer, at: number): number;
}

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly bytes: number;
}

/**
 * Reads of an ELF file which dynamic linker and libraries it names (System V gABI, "Program Loading and Dynamic Linking"):
 * its header, its program headers, the dynamic section and the names in it, nothing else.
 * @returns undefined where it is no ELF file, or a damaged one: whoever starts it will say so
 */
export async function elfNeeds(read: ReadFile): Promise<ElfNeeds | undefined> {
  const head = await exactly(read, 0, HEADER_BYTES);
  const fields = head === undefined ? undefined : fieldsOf(head);
  if (head === undefined || fields === undefined) return undefined;
  const segments = await segmentsOf(read, head, fields);
  if (segments === undefined) return undefined;
  const machine = fields.u16(head, 18);
  const named = segments.find((one) => one.type === PT_INTERP);
  const dynamic = segments.find((one) => one.type === PT_DYNAMIC);
  const interpreter = named === undefined ? undefined : await textAt(read, named);
  const linked = dynamic === undefined ? undefined : await linkedBy(read, { segments, dynamic, fields });
  return { interpreter, machine, libraries: linked?.libraries ?? [], folders: linked?.folders ?? [] };
}

async function segmentsOf(read: ReadFile, head: Buffer, fields: Fields): Promise<Segment[] | undefined> {
  const { is64 } = fields;
  const at = fields.word(head, is64 ? 32 : 28);
  const size = fields.u16(head, is64 ? 54 : 42);
  const count = Math.min(fields.u16(head, is64 ? 56 : 44), MAX_SEGMENTS);
  if (size < (is64 ? 56 : 32) || size > 256 || count === 0) return undefined;
  const table = await exactly(read, at, size * count);
  if (table === undefined) return undefined;
  return Array.from({ length: count }, (_none, index): Segment => {
    const from = index * size;
    return {
      type: fields.u32(table, from),
      offset: fields.word(table, from + (is64 ? 8 : 4)),
      address: fields.word(table, from + (is64 ? 16 : 8)),
      bytes: fields.word(table, from + (is64 ? 32 : 16)),
    };
  });
}

async function linkedBy(
  read: ReadFile,
  elf: { readonly segments: readonly Segment[]; readonly dynamic: Segment; readonly fields: Fields },
): Promise<Pick<ElfNeeds, 'libraries' | 'folders'> | undefined> {
  const { segments, dynamic, fields } = elf;
  const table = await exactly(read, dynamic.offset, Math.min(dynamic.bytes, MAX_DYNAMIC_BYTES));
  if (table === undefined) return undefined;
  const step = fields.is64 ? 16 : 8;
  const values = new Map<number, number[]>();
  for (let at = 0; at + step <= table.length; at += step) {
    const tag = fields.word(table, at);
    if (tag === 0) break;
    const known = values.get(tag) ?? [];
    values.set(tag, [...known.slice(0, MAX_LIBRARIES - 1), fields.word(table, at + step / 2)]);
  }
  const address = values.get(DT_STRTAB)?.[0];
  const bytes = Math.min(values.get(DT_STRSZ)?.[0] ?? 0, MAX_STRINGS_BYTES);
  const holder = segments.find(
    (one) =>
      one.type === PT_LOAD &&
      address !== undefined &&
      address >= one.address &&
      address < one.address + one.bytes,
  );
  if (address === undefined || holder === undefined) return undefined;
  const strings = await exactly(read, holder.offset + address - holder.address, bytes);
  if (strings === undefined) return undefined;
  const texts = (tag: number): string[] =>
    (values.get(tag) ?? []).map((at) => textIn(strings, at)).filter((text) => text !== '');
  const runpath = texts(DT_RUNPATH);
  const folders = (runpath.length > 0 ? runpath : texts(DT_RPATH)).flatMap((list) => list.split(':'));
  return { libraries: texts(DT_NEEDED), folders: folders.filter((folder) => folder !== '') };
}

function fieldsOf(head: Buffer): Fields | undefined {
  if (head.readUInt32BE(0) !== MAGIC) return undefined;
  const is64 = head[4] === 2;
  if ((head[4] !== 1 && !is64) || (head[5] !== 1 && head[5] !== 2)) return undefined;
  const isLittle = head[5] === 1;
  const u32 = (bytes: Buffer, at: number): number =>
    isLittle ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at);
  const u64 = (bytes: Buffer, at: number): number =>
    Number(isLittle ? bytes.readBigUInt64LE(at) : bytes.readBigUInt64BE(at));
  return {
    is64,
    u16: (bytes, at) => (isLittle ? bytes.readUInt16LE(at) : bytes.readUInt16BE(at)),
    u32,
    word: is64 ? u64 : u32,
  };
}

async function textAt(read: ReadFile, segment: Segment): Promise<string | undefined> {
  const bytes = await exactly(read, segment.offset, Math.min(segment.bytes, MAX_PATH_BYTES));
  return bytes === undefined ? undefined : textIn(bytes, 0) || undefined;
}

function textIn(bytes: Buffer, at: number): string {
  if (at >= bytes.length) return '';
  const end = bytes.indexOf(0, at);
  return end < 0 || end - at > MAX_PATH_BYTES ? '' : bytes.toString('utf8', at, end);
}

async function exactly(read: ReadFile, offset: number, length: number): Promise<Buffer | undefined> {
  if (!Number.isSafeInteger(offset) || length <= 0) return undefined;
  const bytes = await read(offset, length);
  if (bytes.length < length) return undefined;
  return Buffer.from(bytes.buffer, bytes.byteOffset, length);
}
