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
