import { digestOf } from '@sepia/base/digest';
import { CodedError, type ErrorCode } from '@sepia/base/errors';
import t from 'tap';
import type { BlobSource } from '../src/blob-backend.ts';
import { FirstOf } from '../src/first-of.ts';
import { REPOSITORY, soon } from './contract.ts';

const QUERY = { repository: REPOSITORY, digest: digestOf(Buffer.from('x')) };

const source = (answer: number | ErrorCode | Error): BlobSource => {
  const give = async () => {
    if (answer instanceof Error) throw answer;
    if (typeof answer === 'string') throw new CodedError(answer);
    return { sizeBytes: answer };
  };
  return { headBlob: give, getBlob: async () => (await give()) as never };
};

const ask = async (lastDecides: boolean, ...answers: (number | ErrorCode | Error)[]): Promise<unknown> => {
  try {
    return (await new FirstOf(answers.map(source), { lastDecides }).headBlob(QUERY, soon())).sizeBytes;
  } catch (error) {
    return error instanceof CodedError ? error.code : error;
  }
};

t.test('the first that has it is asked; silence hides nothing', async (t) => {
  t.equal(await ask(false, 1, 2), 1);
  t.equal(await ask(false, 'BLOB_UNKNOWN', 2), 2);
  t.equal(await ask(false, 'BACKEND_DOWN', 2), 2);
  t.equal(await ask(false, 'BLOB_UNKNOWN', 'BLOB_UNKNOWN'), 'BLOB_UNKNOWN');
  t.equal(await ask(false, 'BACKEND_DOWN', 'BLOB_UNKNOWN'), 'BACKEND_DOWN');
  t.equal(await ask(false, 'BLOB_UNKNOWN', 'UPSTREAM_LIMITED'), 'UPSTREAM_LIMITED');
  t.equal(await ask(true, 'BACKEND_DOWN', 'BLOB_UNKNOWN'), 'BLOB_UNKNOWN', 'the registry decides');
  t.equal(await ask(true, 'BLOB_UNKNOWN', 'BACKEND_DOWN'), 'BACKEND_DOWN');
  t.equal(await ask(false, 'RANGE_INVALID', 2), 'RANGE_INVALID');
  const bug = new TypeError('bug');
  t.equal(await ask(false, bug, 2), bug, 'a bug is no answer');
});
