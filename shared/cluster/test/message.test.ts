import { isCoded } from '@sepia/base/errors';
import t from 'tap';
import { z } from 'zod';
import { fits, toldBy } from '../src/message.ts';

const BODY = z
  .strictObject({ of: z.object({ digests: z.array(z.string().max(3)) }), limit: z.number().default(7) })
  .refine(({ limit }) => limit !== 9, { message: 'asks for nine' });

t.test('what fits is handed on with its defaults', async (t) => {
  const sent: unknown = { of: { digests: ['a'] } };
  t.same(fits(BODY)(sent), { of: { digests: ['a'] }, limit: 7 });
  t.same(toldBy('origin o1', BODY, sent), { of: { digests: ['a'] }, limit: 7 });
});

t.test('what does not fit is refused by the path of its field', async (t) => {
  const sent: unknown = { of: { digests: ['a', 'long'] } };
  const bare = refusalOf(() => fits(BODY)(sent));
  t.equal(bare.code, 'REQUEST_INVALID');
  t.match(bare.message, /^of\.digests\.1: \S/);
  t.match(refusalOf(() => fits(BODY, 'purge')(sent)).message, /^purge: of\.digests\.1: \S/);
});

t.test('a fault of the whole names no field', async (t) => {
  const sent: unknown = { of: { digests: [] }, limit: 9 };
  t.equal(refusalOf(() => fits(BODY)(sent)).message, 'asks for nine');
  t.match(refusalOf(() => fits(BODY)(undefined)).message, /^[^:]/);
});

t.test(
  'an answer that is none is of a member that cannot be used, not of a request that is wrong',
  async (t) => {
    const told = refusalOf(() => toldBy('origin o1', BODY, []));
    t.equal(told.code, 'PEER_HTTP');
    t.same(told.detail, { status: 200 });
    t.match(told.message, /^origin o1: \S/);
  },
);

function refusalOf(act: () => unknown): { code: string; message: string; detail: unknown } {
  try {
    act();
  } catch (error) {
    if (!isCoded(error)) throw error;
    return { code: error.code, message: error.message, detail: error.detail };
  }
  throw new Error('nothing was refused');
}
