/** What a test's ELF file says. */
export interface ElfParts {
  readonly is64?: boolean;
  readonly isLittle?: boolean;
  readonly machine?: number;
  readonly interpreter?: string;
  readonly needed?: readonly string[];
  readonly runpath?: string;
  readonly rpath?: string;
}

/** A shared object of nothing but its headers, dynamic section and names; its load address is not its offset. */
export function writeElf(parts: ElfParts): Buffer {
  const { is64 = true, isLittle = true, machine = 62, interpreter, needed = [], runpath, rpath } = parts;
  const address = 0x40_0000;
  const word = is64 ? 8 : 4;
  const entry = is64 ? 56 : 32;
  const names: string[] = [''];
  const nameAt = (text: string): number => {
    names.push(text);
    return names.slice(0, -1).reduce((sum, one) => sum + Buffer.byteLength(one) + 1, 0);
  };
  const tags: [number, number][] = [
    ...needed.map((name): [number, number] => [1, nameAt(name)]),
    ...(runpath === undefined ? [] : [[29, nameAt(runpath)] as [number, number]]),
    ...(rpath === undefined ? [] : [[15, nameAt(rpath)] as [number, number]]),
  ];
  const strings = Buffer.from(`${names.join('\0')}\0`);
  const segments = interpreter === undefined ? 2 : 3;
  const head = is64 ? 64 : 52;
  const stringsAt = head + segments * entry;
  const linkerAt = stringsAt + strings.length;
  const linker = Buffer.from(interpreter === undefined ? '' : `${interpreter}\0`);
  const dynamicAt = linkerAt + linker.length;
  tags.push([5, address + stringsAt], [10, strings.length], [0, 0]);
  const bytes = Buffer.alloc(dynamicAt + tags.length * 2 * word);
  const u16 = (value: number, at: number) =>
    isLittle ? bytes.writeUInt16LE(value, at) : bytes.writeUInt16BE(value, at);
  const u32 = (value: number, at: number) =>
    isLittle ? bytes.writeUInt32LE(value, at) : bytes.writeUInt32BE(value, at);
  const put = (value: number, at: number): void => {
    if (!is64) u32(value, at);
    else if (isLittle) bytes.writeBigUInt64LE(BigInt(value), at);
    else bytes.writeBigUInt64BE(BigInt(value), at);
  };
  bytes.set([0x7f, 0x45, 0x4c, 0x46, is64 ? 2 : 1, isLittle ? 1 : 2, 1]);
  u16(machine, 18);
  put(head, is64 ? 32 : 28);
  u16(entry, is64 ? 54 : 42);
  u16(segments, is64 ? 56 : 44);
  const segment = (index: number, type: number, offset: number, size: number): void => {
    const at = head + index * entry;
    u32(type, at);
    put(offset, at + (is64 ? 8 : 4));
    put(address + offset, at + (is64 ? 16 : 8));
    put(size, at + (is64 ? 32 : 16));
  };
  segment(0, 1, 0, bytes.length);
  segment(1, 2, dynamicAt, tags.length * 2 * word);
  if (interpreter !== undefined) segment(2, 3, linkerAt, linker.length);
  strings.copy(bytes, stringsAt);
  linker.copy(bytes, linkerAt);
  for (const [index, [tag, value]] of tags.entries()) {
    put(tag, dynamicAt + index * 2 * word);
    put(value, dynamicAt + (index * 2 + 1) * word);
  }
  return bytes;
}
