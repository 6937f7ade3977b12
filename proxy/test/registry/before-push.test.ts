import { CodedError, type ErrorCode } from '@sepia/base/errors';
import type { Context } from 'koa';
import t from 'tap';
import { beforePush } from '../../src/registry/before-push.ts';

type Read = Parameters<typeof beforePush<'blob'>>[2];
type Given = Parameters<Read>;

/** What is thrown at a request for a blob that an origin answers with `code`. */
async function thrown(
  code: ErrorCode,
  request: { method?: string; mayPush?: boolean; mode?: string } = {},
): Promise<string> {
  const { method = 'HEAD', mayPush = true, mode = 'write-back' } = request;
  const read: Read = async () => {
    throw new CodedError(code);
  };
  const cluster = { upstream: () => ({ mode }) } as unknown as Parameters<typeof beforePush>[1];
  const ctx = { method, state: { mayPush } } as unknown as Context;
  try {
    await beforePush('blob', cluster, read)(ctx as Given[0], { upstream: 'hub' } as Given[1], {} as Given[2]);
    return 'nothing';
  } catch (error) {
    return (error as CodedError).code;
  }
}

t.test('who may push is told to, where the registry behind does not say', async (t) => {
  for (const code of ['BACKEND_DOWN', 'UPSTREAM_LIMITED', 'UPSTREAM_LIES'] as const)
    t.equal(await thrown(code), 'BLOB_UNKNOWN');
  for (const code of ['UPSTREAM_DENIED', 'QUORUM_LOST', 'NO_PEERS', 'BLOB_UNKNOWN'] as const)
    t.equal(await thrown(code), code, 'other words stay');
});

t.test('who reads is never told that something is gone while nobody knows', async (t) => {
  t.equal(await thrown('BACKEND_DOWN', { method: 'GET' }), 'BACKEND_DOWN');
  t.equal(await thrown('BACKEND_DOWN', { mayPush: false }), 'BACKEND_DOWN');
  t.equal(await thrown('BACKEND_DOWN', { mode: 'pull-through' }), 'BACKEND_DOWN');
});
