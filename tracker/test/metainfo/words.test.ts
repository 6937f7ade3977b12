import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { WordAsked } from '@sepia/cluster/api/blob-answers';
import type { Cluster } from '@sepia/cluster/cluster';
import { AnswerPace } from '@sepia/http/answer-pace';
import type { InternalClient, InternalRequest } from '@sepia/http/client';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import { WORDS_AGAIN_MS } from '../../src/deadlines.ts';
import { askHolder } from '../../src/metainfo/holder-word.ts';
import { Origins } from '../../src/metainfo/origins.ts';
import { Words } from '../../src/metainfo/words.ts';

const SIGNAL = new AbortController().signal;
const nameAt = (at: number) => ({
  digest: digestOf(Buffer.from(String(at))),
  upstream: 'local',
  repository: parseRepositoryName('a'),
});

type Call = Omit<InternalRequest, 'body'> & {
  readonly json?: { readonly asked: readonly WordAsked[] };
};

/** Questions at origins that `answer` stands for; how many links each call was for. */
function wordsWith(answer: (call: Call) => unknown) {
  const calls: string[] = [];
  const client = {
    json: async (call: Call) => {
      calls.push(`${call.to} ${call.json?.asked.length}`);
      return await answer(call);
    },
  } as unknown as InternalClient;
  const pace = new AnswerPace();
  const words = new Words({ client, url: (id) => `http://${id}`, pace });
  return { words, calls, pace };
}

t.test('what one origin is asked in one turn goes in one call, and one question alone in none', async (t) => {
  const { words, calls } = wordsWith(({ json }) => ({
    told: json!.asked.map((one) => ('etag' in one ? 'same' : { state: 'none', linked: false })),
  }));
  const told = await Promise.all([
    words.ask('a', nameAt(1), 900, SIGNAL),
    words.ask('a', { ...nameAt(2), etag: '"x"' }, 900, SIGNAL),
    words.ask('b', nameAt(1), 900, SIGNAL),
    words.ask('a', nameAt(3), 4_000, SIGNAL),
  ]);
  t.same(told, [{ state: 'none', linked: false }, 'same', null, null]);
  t.same(calls, ['a 2']);
  const many = Array.from({ length: 300 }, async (_, at) => await words.ask('a', nameAt(at), 900, SIGNAL));
  t.ok((await Promise.all(many)).every((one) => one !== null));
  t.same(calls.slice(1), ['a 128', 'a 128', 'a 44']);
});

t.test('what is no answer to what was asked is asked for alone', async (t) => {
  for (const answer of [{}, { told: ['same'] }, { told: 'same' }, { told: [null, null] }, { told: [] }]) {
    const { words } = wordsWith(() => answer);
    const both = [1, 2].map(async (at) => await words.ask('a', nameAt(at), 900, SIGNAL));
    t.same(await Promise.all(both), [null, null], JSON.stringify(answer));
  }
});

t.test('silence, a refusal and a bug are what each hears that asked', async (t) => {
  for (const error of [
    new CodedError('PEER_HTTP'),
    new CodedError('RECORDS_PENDING'),
    new TypeError('wrong code'),
  ]) {
    const { words } = wordsWith(() => Promise.reject(error));
    const both = [1, 2].map(async (at) => await words.ask('a', nameAt(at), 900, SIGNAL));
    const heard = { status: 'rejected', reason: error };
    t.same(await Promise.allSettled(both), [heard, heard]);
  }
});

t.test('silence of a call: what needs no thought counts as silent, a word is asked for alone', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const { words, calls } = wordsWith(
    async ({ signal }) =>
      await new Promise((_, reject) =>
        signal!.addEventListener('abort', () => reject(signal!.reason), { once: true }),
      ),
  );
  const all = [nameAt(1), { ...nameAt(2), etag: '"x"' }, { ...nameAt(3), etag: '"y"' }].map(
    async (one) => await words.ask('a', one, 900, SIGNAL),
  );
  const said = await time.settle(Promise.allSettled(all));
  const alone = { status: 'fulfilled', value: null };
  t.match(said[0], { status: 'rejected', reason: { name: 'TimeoutError' } });
  t.same(said.slice(1), [alone, alone]);
  t.equal(time.elapsedMs, 900);
  t.same(calls, ['a 3']);
});

t.test('only answers that need no thought say how fast an origin answers', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const none = { state: 'none', linked: false };
  let told: readonly unknown[] = [];
  const { words, calls, pace } = wordsWith(async () => {
    await new Promise((resolve) => setTimeout(resolve, 100));
    return { told };
  });
  const ask = async (asked: readonly WordAsked[], answer: readonly unknown[]): Promise<number> => {
    told = answer;
    await time.settle(Promise.all(asked.map(async (one) => await words.ask('a', one, 900, SIGNAL))));
    return pace.timeoutMs(1, 10_000);
  };
  t.equal(await ask([nameAt(1), { ...nameAt(2), etag: '"x"' }], [none, 'same']), 1, 'a word among them');
  t.equal(await ask([nameAt(1), nameAt(2)], [none, null]), 1, 'one was waited for');
  t.equal(await ask([nameAt(1), nameAt(2)], [none]), 1, 'no answer to it');
  t.ok((await ask([nameAt(1), nameAt(2)], [none, none])) > 100);
  t.equal(calls.length, 4);
});

t.test('who leaves takes nobody with it; with the last the call ends', async (t) => {
  let called: Call | undefined;
  let answer = (_told: object): void => undefined;
  const { words } = wordsWith(async (call) => {
    called = call;
    return await new Promise((resolve, reject) => {
      answer = resolve;
      call.signal?.addEventListener('abort', () => reject(call.signal?.reason), { once: true });
    });
  });
  const left = { code: 'DRAINING' } as const;
  const ask = (): [AbortController, Promise<unknown>] => {
    const abort = new AbortController();
    return [abort, words.ask('a', nameAt(1), 900, abort.signal)];
  };
  const [[first, itsWord], [, otherWord]] = [ask(), ask()];
  await Promise.resolve();
  first.abort(new CodedError('DRAINING'));
  await t.rejects(itsWord, left);
  t.equal(called?.signal?.aborted, false);
  answer({ told: ['same', 'same'] });
  t.equal(await otherWord, 'same');
  const both = [ask(), ask()];
  await Promise.resolve();
  const running = called;
  for (const [abort] of both) abort.abort(new CodedError('DRAINING'));
  const said = await Promise.allSettled(both.map(([, word]) => word));
  t.match(said, [{ reason: left }, { reason: left }]);
  t.equal(running?.signal?.aborted, true);
  await t.rejects(words.ask('a', nameAt(1), 900, first.signal), left, 'who has left already asks nobody');
  t.equal(called, running);
});

t.test('an origin of the version before is asked link by link, until it may be another', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const { words, calls } = wordsWith(() => Promise.reject(new CodedError('ROUTE_UNKNOWN')));
  const both = async () =>
    await Promise.all([1, 2].map(async (at) => await words.ask('a', nameAt(at), 900, SIGNAL)));
  t.same(await both(), [null, null]);
  t.same(await both(), [null, null]);
  t.equal(calls.length, 1);
  await time.pass(WORDS_AGAIN_MS);
  await both();
  t.equal(calls.length, 2);
});

t.test(
  'links that are looked up again together cost each origin one call, whatever else comes of it',
  async (t) => {
    const calls: string[] = [];
    const blobs = [1, 2, 3, 4].map((at) => {
      const name = nameAt(at);
      return { name, known: Metainfo.final(name.digest, 2 ** 20, Buffer.alloc(32, at)) };
    });
    const gone = blobs[2]!.name.digest;
    const client = {
      json: async ({ to, path, json }: Call) => {
        calls.push(`${to} ${path.replace(/sha256:\w+/, '…').replace(/\?.*/, '')}`);
        if (json === undefined) return { state: 'final', linked: true };
        return {
          told: json.asked.map(({ digest, etag }) => {
            if (to === 'a' && digest === gone) return null;
            return etag === undefined ? { state: 'final', linked: true } : 'same';
          }),
        };
      },
      bytes: async ({ to, path }: InternalRequest) => {
        calls.push(`${to} ${path.replace(/sha256:\w+/, '…').replace(/\?.*/, '')}`);
        throw new CodedError('BLOB_UNKNOWN');
      },
    } as unknown as InternalClient;
    const ids = ['a', 'b', 'c'];
    const cluster = {
      origins: () => ({ owners: ids, standIns: [] }),
      member: (id: string) => ({ urls: [`http://${id}`] }),
    } as unknown as Cluster;
    const origins = new Origins({ cluster, client });
    const said = await Promise.all(
      blobs.map(async (one) => await askHolder(origins, { ...one, holderId: 'a', isAwaited: false }, SIGNAL)),
    );
    t.same(
      said.map((one) => (one.type === 'yes' ? one.answers.map(({ state }) => state).join() : one.type)),
      ['final,final,final', 'final,final,final', 'no', 'final,final,final'],
    );
    t.same(calls, ['a /v1/words', 'b /v1/words', 'c /v1/words', 'a /v1/blobs/…/metainfo']);
  },
);
