import { fc } from '@sepia/test-support/property';
import bencode from 'bencode';
import t from 'tap';
import { isBencoded } from '../../src/wire/bencoded.ts';

const WHOLE = [
  'i0e',
  'i-7e',
  '0:',
  '3:abc',
  'le',
  'de',
  'l3:abci5elee',
  'd1:ad1:b1:ce1:dle1:ei1ee',
  '2:ab and more',
];
const NOT_WHOLE = [
  '',
  'e',
  'x',
  '3:ab',
  'i5',
  'ie',
  'i-e',
  'i1.5e',
  'l',
  'l3:abc',
  'd',
  'd1:ae',
  'd1:a1:b',
  'di1e1:ae',
  'dle1:ae',
  `9999999999999999:a`,
  `i${'1'.repeat(17)}e`,
  `${'l'.repeat(17)}${'e'.repeat(17)}`,
];
/** Lengths below zero lead a reader back: it would read the same for ever. */
const BACKWARDS = ['-1:', 'l-3:', 'l-3:e', 'd-3:', 'd1:a-3:', 'll-3:ee', 'd1:md-3:ee'];

t.test('one whole value, and nothing else, is bencoded', async (t) => {
  for (const text of WHOLE) t.ok(isBencoded(Buffer.from(text)), text);
  for (const text of [...NOT_WHOLE, ...BACKWARDS]) t.notOk(isBencoded(Buffer.from(text)), text.slice(0, 40));
});

t.test('what passes is read by the library to an end, and what it writes passes', async (t) => {
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 5 },
      fc.integer(),
      fc.uint8Array({ maxLength: 20 }),
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(fc.string({ maxLength: 8 }), tie('value'), { maxKeys: 4 }),
    ),
  }));
  fc.assert(
    fc.property(
      value,
      fc.array(fc.tuple(fc.nat(), fc.constantFrom(...Buffer.from('-:deil019')))),
      (one, changes) => {
        const bytes = new Uint8Array(bencode.encode(one as Record<string, unknown>));
        if (!isBencoded(bytes)) return false;
        for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
        if (isBencoded(bytes)) bencode.decode(bytes);
        return true;
      },
    ),
    { numRuns: 3_000, interruptAfterTimeLimit: 4_000 },
  );
  t.pass('held');
});
