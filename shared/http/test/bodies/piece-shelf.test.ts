import { CodedError } from '@sepia/base/errors';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { PieceShelf } from '../../src/bodies/piece-shelf.ts';

const never = new AbortController().signal;
const [ANN, BOB] = [{}, {}];

/** A shelf whose clock stands still; `fetched`: the pieces that were fetched. */
function shelf(most = 2) {
  const clock = { ms: 0 };
  const fetched: string[] = [];
  const pieces = new PieceShelf({ most, idleMs: 20, nowMs: () => clock.ms });
  const want = async (key: string, by: object, signal = never): Promise<void> =>
    await pieces.want(
      key,
      by,
      async () => {
        fetched.push(key);
        return await Promise.resolve(Buffer.alloc(8, key));
      },
      signal,
    );
  /** Two want it, one after the other. */
  const share = async (key: string): Promise<void> => {
    await want(key, ANN);
    await want(key, BOB);
  };
  return { clock, fetched, pieces, want, share };
}

t.test('what two want at a time is fetched once, and read by all', async (t) => {
  const { fetched, pieces, want, share } = shelf();
  await share('a');
  t.same(fetched, ['a']);
  t.equal(Buffer.from(pieces.peek('a')!).toString(), 'aaaaaaaa');
  await Promise.all([want('a', ANN), want('a', {}), want('a', BOB)]);
  t.same(fetched, ['a'], 'not again');
});

t.test('who reads alone, or long after another, fetches no whole piece', async (t) => {
  const { clock, fetched, pieces, want } = shelf();
  for (let times = 0; times < 5; times++) await want('a', ANN);
  clock.ms = 21;
  await want('a', BOB);
  t.same(fetched, []);
  t.equal(pieces.peek('a'), undefined);
  t.equal(pieces.size, 0);
});

t.test('what is read keeps its place; what nobody reads gives way, and its memory goes', async (t) => {
  const { clock, pieces, share } = shelf();
  await share('a');
  await share('b');
  await share('c');
  t.equal(pieces.peek('c'), undefined, 'there was no room');
  clock.ms = 15;
  const b = pieces.peek('b')!;
  clock.ms = 25;
  await share('c');
  t.ok(pieces.peek('c'), 'a went');
  t.equal(pieces.peek('a'), undefined);
  t.equal(b.length, 8, 'b was read and stays');
  clock.ms = 1_000;
  await until(() => pieces.size === 0, 'nobody reads any more');
  t.equal(b.length, 0, 'its memory was given back');
});

t.test('a fetch that fails leaves nothing behind; a bug is thrown', async (t) => {
  const { pieces, want } = shelf();
  const failing = async (error: Error): Promise<void> => {
    await want('a', ANN);
    await pieces.want('a', BOB, () => Promise.reject(error), never);
  };
  await failing(new CodedError('NO_PEERS'));
  t.equal(pieces.size, 0);
  await t.rejects(failing(new TypeError('a bug')), /a bug/);
  t.equal(pieces.size, 0);
});

t.test('who leaves is told so at once; the others get the piece', async (t) => {
  const { pieces, want } = shelf();
  const leaving = new AbortController();
  const { promise, resolve: give } = Promise.withResolvers<Buffer>();
  const fetch = (): Promise<Buffer> => promise;
  await want('a', ANN);
  const left = pieces.want('a', BOB, fetch, leaving.signal);
  const stays = pieces.want('a', ANN, fetch, never);
  leaving.abort(new CodedError('TIMEOUT'));
  await t.rejects(left, { code: 'TIMEOUT' });
  give(Buffer.alloc(8, 'a'));
  await stays;
  t.ok(pieces.peek('a'));
  pieces.drop('a');
  t.equal(pieces.peek('a'), undefined, 'what is wrong is dropped');
});
