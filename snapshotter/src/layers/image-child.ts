import { closeSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { CodedError, isCoded, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { MadeImage } from '@sepia/lazy/erofs/image-part';
import type { ImageDone, ImageInFile, ImageJob } from './image-process.ts';
import { answerFrom } from './made-image.ts';

/** The process of an `ImageProcess`: one job after the other, until the daemon is gone. */
process.on('message', ({ indexFile, headBytes, question, into }: ImageJob) => {
  try {
    const answer = answerFrom(headOf(indexFile, headBytes), question);
    tell({ answer: 'meta' in answer ? put(answer, into) : answer });
  } catch (error) {
    throwIfBug(error);
    const { code, message, detail } = isCoded(error) ? error : ofThisNode(error);
    tell({ refused: { code, message, detail } });
  }
});

function tell(done: ImageDone): void {
  process.send?.(done);
}

/** What the system refuses, for want of room or descriptors: that says nothing of the layer. */
function ofThisNode(error: unknown): CodedError {
  if (systemCode(error) === undefined) throw error;
  return new CodedError('MEMBER_BUSY', {
    message: `its image cannot be made now: ${(error as Error).message}`,
  });
}

function headOf(file: string, bytes: number): Buffer {
  const fd = openSync(file, 'r');
  try {
    const head = Buffer.alloc(bytes);
    return head.subarray(0, readSync(fd, head, 0, bytes, 0));
  } finally {
    closeSync(fd);
  }
}

function put({ meta, extents, ...facts }: MadeImage, into: string): ImageInFile {
  // One of a process before may be read still.
  rmSync(into, { force: true });
  const fd = openSync(into, 'wx', 0o600);
  try {
    // Each whole: a disk that is full takes a part of one write, without an error.
    for (const { buffer, byteOffset, byteLength } of [extents.image, extents.layer, extents.length, meta])
      writeFileSync(fd, Buffer.from(buffer, byteOffset, byteLength));
  } catch (error) {
    // A part of it is of no use, and takes room where there is none.
    rmSync(into, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
  return { ...facts, extentsInFile: extents.image.length };
}
