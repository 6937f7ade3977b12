import { Readable } from 'node:stream';
import t from 'tap';
import { wholeBody } from '../../src/bodies/whole-body.ts';

const tooLarge = (): Error => new Error('too large');

function bodyOf(...texts: string[]): Readable {
  return Readable.from(texts.map((text) => Buffer.from(text)));
}

t.test('a body is read up to its limit, and not a byte more', async (t) => {
  t.equal((await wholeBody(bodyOf(), 0, tooLarge)).length, 0);
  const sizes: number[] = [];
  const bytes = await wholeBody(bodyOf('ab', 'c', 'def'), 6, tooLarge, (size) => sizes.push(size));
  t.equal(bytes.toString(), 'abcdef');
  t.same(sizes, [2, 3, 6]);
  const large = bodyOf('ab', 'c', 'def');
  await t.rejects(wholeBody(large, 5, tooLarge), { message: 'too large' });
  t.ok(large.destroyed);
});

t.test('what ends a body, or its listener throws, ends the reading', async (t) => {
  async function* cut(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('ab');
    throw new Error('cut');
  }
  await t.rejects(wholeBody(cut(), 9, tooLarge), { message: 'cut' });
  const body = bodyOf('ab', 'c');
  const full = wholeBody(body, 9, tooLarge, () => {
    throw new Error('no place');
  });
  await t.rejects(full, { message: 'no place' });
  t.ok(body.destroyed);
});

t.test('a body that drips ends, however long it goes on', async (t) => {
  let clockMs = 1_000_000;
  let isEnded = false;
  async function* drip(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        yield Buffer.from('a');
        clockMs += 9_000;
      }
    } finally {
      isEnded = true;
    }
  }
  const whole = wholeBody(drip(), 1024 ** 2, tooLarge, undefined, () => clockMs);
  await t.rejects(whole, { code: 'TIMEOUT', detail: { sizeBytes: 8, tookMs: 63_000 } });
  t.ok(isEnded);
});
