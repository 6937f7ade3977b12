import { readPathLine } from '@sepia/cluster/core/path-line';
import { type Conflict, lowestConflict, outlineOf } from '@sepia/lazy/erofs/image-conflicts';
import { imageOf, type MadeImage } from '@sepia/lazy/erofs/image-part';
import { type TreeNode, unpackedTree } from '@sepia/lazy/erofs/layer-tree';
import { type LayerIndex, readIndexHead } from '@sepia/lazy/index/layer-index';
import { type ByteString, byteStringOf, textOf } from '@sepia/lazy/tar/byte-string';
import { cleanPath } from '@sepia/lazy/tar/tar-entry';

/** What is asked of an index whose head is given; entries are too many to be kept. */
export type ImageQuestion =
  | { readonly type: 'image' }
  | { readonly type: 'tree' }
  | { readonly type: 'lowest' }
  | { readonly type: 'outline'; readonly paths: readonly ByteString[] }
  | { readonly type: 'files' }
  | { readonly type: 'places'; readonly paths: readonly string[] };

/** Where a file's content is in the uncompressed layer; `turn`: its place in the list that names it. */
export interface FilePlace {
  readonly turn: number;
  readonly offset: number;
  readonly size: number;
}

/** The answer to each question: an image; its tree, or what of it lies on the ways to some paths; what keeps it from being the lowest layer, if anything; files with content by where that begins; those of a list. */
export interface ImageAnswers {
  readonly image: MadeImage;
  readonly tree: TreeNode;
  readonly lowest: readonly Conflict[];
  readonly outline: TreeNode;
  readonly files: ReadonlyMap<number, string>;
  readonly places: readonly FilePlace[];
}

/** @throws {CodedError} `INDEX_INVALID`, `LAYER_NOT_LAZY` */
export function answerFrom<Q extends ImageQuestion>(head: Buffer, question: Q): ImageAnswers[Q['type']] {
  return answerOf(readIndexHead(head), question) as ImageAnswers[Q['type']];
}

function answerOf(index: LayerIndex, question: ImageQuestion): ImageAnswers[ImageQuestion['type']] {
  if (question.type === 'files') return contentFiles(index);
  if (question.type === 'places') return placesOf(index, question.paths);
  if (question.type === 'image') return imageOf(index);
  if (question.type === 'lowest') return [lowestConflict(index.entries) ?? []].flat();
  const tree = unpackedTree(index.entries);
  return question.type === 'tree' ? tree : outlineOf(tree, question.paths);
}

function contentFiles(index: LayerIndex): Map<number, string> {
  const files = index.entries.filter((entry) => entry.type === 'file' && entry.size > 0);
  return new Map(files.map((entry) => [entry.offset, textOf(entry.path)]));
}

function placesOf(index: LayerIndex, paths: readonly string[]): FilePlace[] {
  const files = new Map(index.entries.map((entry) => [entry.path, entry]));
  return paths.flatMap((line, turn) => {
    const { path, part } = readPathLine(line);
    const named = files.get(cleanPath(byteStringOf(path)));
    const entry = named?.type === 'hardlink' ? files.get(named.link) : named;
    const { offset = 0, length = entry?.size ?? 0 } = part ?? {};
    const size = Math.min(length, (entry?.size ?? 0) - offset);
    return entry?.type === 'file' && size > 0 ? [{ turn, offset: entry.offset + offset, size }] : [];
  });
}
