import { Writable } from 'node:stream';
import t from 'tap';
import { Transfers } from '../../src/terminal/transfers.ts';

const NAME = 'sha256:0e61fbd135ad';
const MIB = 2 ** 20;

/** What a terminal of so many columns was last drawn. */
function terminal(columns: number): { readonly out: NodeJS.WriteStream; readonly drawn: () => string[] } {
  let last = '';
  const out = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      last = chunk
        .toString()
        .replace(/^.*\[J/s, '')
        .trimEnd();
      done();
    },
  });
  return {
    out: Object.assign(out, { isTTY: true, columns }) as unknown as NodeJS.WriteStream,
    drawn: () => last.split('\n'),
  };
}

t.test('bars leave room for time and rate, from the start to the end', async (t) => {
  for (const columns of [80, 100, 200]) {
    const { out, drawn } = terminal(columns);
    const transfers = new Transfers(out);
    const [small, big] = [transfers.start(NAME, 311), transfers.start(NAME, 64 * MIB)];
    const cells = (): number[] => drawn().map((line) => line.match(/[█░]+/)![0].length);
    const before = cells();
    t.ok(before.every((one) => one === before[0] && one >= 6 && one <= 28));
    if (columns > 100) t.equal(before[0], 28);
    small.add(311);
    big.add(32 * MIB);
    small.end();
    big.end('here already');
    t.same(cells(), before, `${columns}`);
    for (const line of drawn()) t.ok(line.length < columns && !line.includes('…'), line);
    t.match(drawn()[0], / 100% +311 B of 311 B {2}0\.\d\d s, \S+ (KiB|MiB|B)\/s$/);
    t.match(drawn()[1], /here already$/);
  }
});
