import { MAX_NAME_BYTES } from '../index/layer-entry.ts';
import { type ByteString, byteStringOf, textOf } from '../tar/byte-string.ts';
import { cleanPath, endOfEntry, type TarEntry } from '../tar/tar-entry.ts';
import { isReservedName, landmarkEntry, NO_PREFETCH_LANDMARK, PREFETCH_LANDMARK } from './landmark.ts';
import { type Part, wholeFile } from './part.ts';
import { isRfc3339 } from './toc.ts';

/** One entry of the layer that is written, in the order of writing. */
export interface OutEntry {
  /** What its header says. */
  readonly entry: TarEntry;
  /** True: the header blocks of the source are copied as they are; false: they are made anew from `entry`. */
  readonly isRaw: boolean;
  /** Content of a file, in order; its lengths add up to `entry.size`. */
  readonly payload: readonly Part[];
  /** True for a landmark: its payload must begin a member of its own. */
  readonly isLandmark: boolean;
}

/** The entries of a layer in the order in which they are written. */
export interface Arrangement {
  readonly entries: readonly OutEntry[];
  /** True if nothing was dropped, moved or changed: the source's bytes may be kept one for one. */
  readonly isVerbatim: boolean;
  /** Prioritized names that this layer does not have. */
  readonly missing: readonly string[];
}

/** Why a layer cannot be eStargz; it then stays the ordinary layer that it is. */
export interface Unfit {
  readonly unfit: string;
}

export interface ArrangeOptions {
  /** Files that a container reads first, in that order; any spelling of a path from the root. */
  readonly prioritized?: readonly string[];
  /** Content and logical size of sparse files, by entry (see `readSparse`). */
  readonly sparse?: ReadonlyMap<TarEntry, SparseFile>;
  /** False: no landmark is put in (a layer that keeps its bytes). */
  readonly withLandmark?: boolean;
  /** True: headers that are not plain (see `TarEntry.isPlain`) are made anew, and times end with the year 9999. */
  readonly plainHeaders?: boolean;
}

/** A GNU sparse file with its holes filled in. */
export interface SparseFile {
  readonly name: ByteString;
  readonly sizeBytes: number;
  readonly parts: readonly Part[];
}

/** Directories that a later entry of another type replaces: more make a layer unfit, each costs a walk over all names. */
const MAX_REPLACED_DIRECTORIES = 1000;
/** Directories that only other paths name: each is held in memory, and a path of 256 bytes may name 127. */
const MAX_IMPLIED_DIRECTORIES = 100_000;

/**
 * Decides what an eStargz layer holds and in which order. A TOC knows one entry per path, so of entries of the same path
 * the last counts, as after unpacking; a hard link to one that does not count becomes the file itself. An old TOC and old
 * landmarks are left out.
 */
export function arrange(source: readonly TarEntry[], options: ArrangeOptions = {}): Arrangement | Unfit {
  const isPlain = options.plainHeaders === true;
  const tree = new LayerTree(isPlain);
  for (const [index, entry] of source.entries()) {
    const sparse = options.sparse?.get(entry);
    const problem = misfit(entry, sparse, isPlain) ?? tree.add(withSparse(entry, sparse), index);
    if (problem !== undefined) return { unfit: problem };
  }
  const kept = tree.entries(options.sparse, source);
  const { front, rest, missing } = prioritize(kept, options.prioritized ?? []);
  const isVerbatim = front.length === 0 && kept.length === source.length && kept.every((one) => one.isRaw);
  if (options.withLandmark === false) return { entries: [...front, ...rest], isVerbatim, missing };
  const landmark = landmarkOf(front.length === 0 ? NO_PREFETCH_LANDMARK : PREFETCH_LANDMARK);
  return { entries: [...front, landmark, ...rest], isVerbatim, missing };
}

function landmarkOf(name: ByteString): OutEntry {
  const payload: Part[] = [{ bytes: Uint8Array.of(0x0f) }];
  return { entry: landmarkEntry(name), isRaw: false, payload, isLandmark: true };
}

function withSparse(entry: TarEntry, sparse: SparseFile | undefined): TarEntry {
  if (sparse === undefined) return entry;
  return { ...entry, typeFlag: '0', type: 'file', name: sparse.name, size: sparse.sizeBytes, sparse: false };
}

/** What no TOC can say of a single entry. */
function misfit(entry: TarEntry, sparse: SparseFile | undefined, isPlain: boolean): string | undefined {
  const name = sparse?.name ?? entry.name;
  const shown = JSON.stringify(textOf(name).slice(0, 200));
  const linkBytes = entry.type === 'hardlink' ? entry.linkName.length : 0;
  if (Math.max(name.length, linkBytes) > MAX_NAME_BYTES)
    return `${shown} or what it links to has a name of more than ${MAX_NAME_BYTES} bytes`;
  if (!isText(name) || !isText(entry.linkName)) return `${shown} is not named in UTF-8`;
  if (!isText(entry.userName) || !isText(entry.groupName))
    return `the owner of ${shown} is not named in UTF-8`;
  if ([...entry.xattrs.keys()].some((key) => !isText(key)))
    return `an xattr of ${shown} is not named in UTF-8`;
  if (entry.sparse && sparse === undefined) return `${shown} is a sparse file of an unknown form`;
  if (entry.type === 'other' && sparse === undefined)
    return `${shown} has the tar type ${JSON.stringify(entry.typeFlag)}`;
  if (entry.uid < 0 || entry.gid < 0) return `${shown} has a negative owner`;
  if (isPlain && !isRfc3339(entry.mtimeSec)) return `${shown} has a time that RFC 3339 cannot hold`;
  return undefined;
}

function isText(name: ByteString): boolean {
  return byteStringOf(textOf(name)) === name;
}

interface Node {
  readonly entry: TarEntry;
  /** Position in the source. */
  readonly index: number;
  /** The node whose file a hard link shares. */
  readonly target: Node | undefined;
  /** Path that the node has, while it counts. */
  readonly path: ByteString;
  counts: boolean;
  /** For a file that does not count: the first link to it that does takes its place. */
  heir: Node | undefined;
}

/** What unpacking the entries so far leaves behind. */
class LayerTree {
  /** See `ArrangeOptions.plainHeaders`. */
  readonly #isPlain: boolean;
  readonly #nodes: Node[] = [];
  readonly #byPath = new Map<ByteString, Node>();
  /** Directories that only other paths name. */
  readonly #implied = new Set<ByteString>();
  /** Paths of directories, none below a file, as long as no directory was replaced: each costs as much as it is deep. */
  readonly #ways = new Set<ByteString>();
  #replaced = 0;

  constructor(isPlain: boolean) {
    this.#isPlain = isPlain;
  }

  /** @returns why the entry has no place in a TOC */
  add(entry: TarEntry, index: number): string | undefined {
    const path = cleanPath(entry.name);
    if (isReservedName(path)) return undefined;
    if (path === '' && entry.type !== 'directory') return 'the root is no directory';
    const shown = JSON.stringify(textOf(path).slice(0, 200));
    const parent = this.#nonDirectoryAbove(path);
    if (parent !== undefined)
      return `${shown} lies below ${JSON.stringify(textOf(parent))}, which is no directory`;
    let target: Node | undefined;
    if (entry.type === 'hardlink') {
      const named = this.#byPath.get(cleanPath(entry.linkName));
      target = named?.target ?? named;
      if (target === undefined || named?.path === path)
        return `${shown} is a hard link to ${JSON.stringify(textOf(entry.linkName).slice(0, 200))}, which this layer does not have before it`;
      if (target.entry.type === 'directory') return `${shown} is a hard link to a directory`;
    }
    if (!this.#replace(path, entry)) return 'too many directories are replaced by files';
    for (let up = parentOf(path); up !== '' && !this.#byPath.has(up); up = parentOf(up)) {
      if (this.#implied.has(up)) break;
      this.#implied.add(up);
    }
    if (this.#implied.size > MAX_IMPLIED_DIRECTORIES)
      return 'too many directories have no entry of their own';
    const node: Node = { entry, index, target, path, counts: true, heir: undefined };
    this.#nodes.push(node);
    this.#byPath.set(path, node);
    return undefined;
  }

  /** What counts, in the order of the source. */
  entries(sparse: ReadonlyMap<TarEntry, SparseFile> | undefined, source: readonly TarEntry[]): OutEntry[] {
    const out: OutEntry[] = [];
    for (const node of this.#nodes) {
      if (!node.counts) continue;
      const { target } = node;
      if (target === undefined) out.push(this.#own(node, node.entry, sparse, source));
      else if (target.counts) out.push(this.#linkTo(node, target));
      else if (target.heir === undefined) {
        target.heir = node;
        // The file lives on under the name of its first link.
        const { typeFlag, type, ...rest } = target.entry;
        out.push(this.#own(target, { ...rest, typeFlag, type, name: node.entry.name }, sparse, source));
      } else out.push(this.#linkTo(node, target.heir));
    }
    return out;
  }

  #own(
    node: Node,
    entry: TarEntry,
    sparse: ReadonlyMap<TarEntry, SparseFile> | undefined,
    source: readonly TarEntry[],
  ): OutEntry {
    const filled = sparse?.get(source[node.index]!);
    const payload = filled?.parts ?? wholeFile(entry);
    const isRaw = filled === undefined && this.#keepsHeader(entry) && entry.name === node.entry.name;
    return { entry: isRaw ? entry : this.#made(entry), isRaw, payload, isLandmark: false };
  }

  /** A hard link by the name that its file has in the output. */
  #linkTo(link: Node, file: Node): OutEntry {
    const isRaw = cleanPath(link.entry.linkName) === file.path && this.#keepsHeader(link.entry);
    const entry = isRaw ? link.entry : { ...link.entry, linkName: this.#made(file.entry).name };
    return { entry, isRaw, payload: [], isLandmark: false };
  }

  #keepsHeader(entry: TarEntry): boolean {
    return !entry.usesGlobals && (entry.isPlain || !this.#isPlain);
  }

  /** What a header that is made anew says. Old flags, and files whose name ends with a slash, are read in two ways. */
  #made(entry: TarEntry): TarEntry {
    if (!this.#isPlain) return entry;
    if (entry.type === 'directory') return { ...entry, typeFlag: '5' };
    if (entry.type !== 'file') return entry;
    return { ...entry, typeFlag: '0', name: entry.name.replace(/\/+$/, '') as ByteString };
  }

  /** A file among the directories above a path. */
  #nonDirectoryAbove(path: ByteString): ByteString | undefined {
    const walked: ByteString[] = [];
    for (let up = parentOf(path); up !== '' && !this.#ways.has(up); up = parentOf(up)) {
      const node = this.#byPath.get(up);
      if (node !== undefined && node.entry.type !== 'directory') return up;
      walked.push(up);
    }
    for (const up of walked) this.#ways.add(up);
    return undefined;
  }

  /** @returns false where that was done too often */
  #replace(path: ByteString, entry: TarEntry): boolean {
    const before = this.#byPath.get(path);
    if (before !== undefined) before.counts = false;
    const wasDirectory = this.#implied.delete(path) || before?.entry.type === 'directory';
    if (!wasDirectory || entry.type === 'directory') return true;
    this.#replaced += 1;
    this.#ways.clear();
    const inside = `${path}/`;
    for (const [below, node] of this.#byPath) {
      if (!below.startsWith(inside)) continue;
      node.counts = false;
      this.#byPath.delete(below);
    }
    for (const below of this.#implied) if (below.startsWith(inside)) this.#implied.delete(below);
    return this.#replaced <= MAX_REPLACED_DIRECTORIES;
  }
}

function parentOf(path: ByteString): ByteString {
  return path.slice(0, Math.max(0, path.lastIndexOf('/'))) as ByteString;
}

const WHITEOUT = '.wh.';

/**
 * Moves the prioritized entries, each behind its directories and its link's file, to the front. A whiteout that stands before
 * what the layer has in its place goes before it: who unpacks would else take that away.
 */
function prioritize(
  entries: readonly OutEntry[],
  names: readonly string[],
): { front: OutEntry[]; rest: OutEntry[]; missing: string[] } {
  if (names.length === 0) return { front: [], rest: [...entries], missing: [] };
  const byPath = new Map(entries.map((one) => [cleanPath(one.entry.name), one]));
  const front = new Set<OutEntry>();
  const missing: string[] = [];
  const take = (path: ByteString): boolean => {
    const found = byPath.get(path);
    if (found === undefined) return false;
    const move = (moved: ByteString): void => {
      const at = moved.lastIndexOf('/') + 1;
      const whiteout = byPath.get((moved.slice(0, at) + WHITEOUT + moved.slice(at)) as ByteString);
      const own = byPath.get(moved);
      const { headerOffset } = (own ?? found).entry;
      if (whiteout !== undefined && whiteout.entry.headerOffset < headerOffset) front.add(whiteout);
      if (own !== undefined) front.add(own);
    };
    for (let end = path.indexOf('/'); end > 0; end = path.indexOf('/', end + 1))
      move(path.slice(0, end) as ByteString);
    if (found.entry.type === 'hardlink') take(cleanPath(found.entry.linkName));
    move(path);
    return true;
  };
  for (const name of names) if (!take(cleanPath(byteStringOf(name)))) missing.push(name);
  return { front: [...front], rest: entries.filter((one) => !front.has(one)), missing };
}

/** Bytes that the source's own end has after its last entry: zero blocks, and whatever follows. */
export function trailerOf(source: readonly TarEntry[], tarBytes: number): Part[] {
  const last = source.at(-1);
  const from = last === undefined ? 0 : Math.min(endOfEntry(last), tarBytes);
  return tarBytes > from ? [{ from, length: tarBytes - from }] : [];
}
