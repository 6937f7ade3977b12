import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { z } from 'zod';
import { checkConfig } from '../../src/config/load.ts';
import {
  baseUrl,
  bytes,
  duration,
  hostPort,
  isBaseUrl,
  parseBytes,
  parseDuration,
  pathText,
} from '../../src/config/units.ts';

t.test('sizes', async (t) => {
  for (const [text, expected] of [
    ['512', 512],
    ['0', 0],
    ['7B', 7],
    ['64KiB', 65_536],
    ['1.5 MiB', 1_572_864],
    ['10GiB', 10 * 2 ** 30],
    ['2TiB', 2 ** 41],
    ['3KB', 3000],
    ['3MB', 3e6],
    ['3GB', 3e9],
    ['3TB', 3e12],
    [' 1 B ', 1],
  ] as const) {
    t.equal(parseBytes(text), expected, text);
  }
  for (const bad of [
    '',
    'GiB',
    '-1',
    '1 kib',
    '1gib',
    '1e3',
    '1.',
    '.5',
    '1,5GiB',
    '1 GiB x',
    '5constructor',
    '5toString',
    '0x10',
    '99999999999TiB',
    'Infinity',
    '٣',
  ]) {
    t.equal(parseBytes(bad), undefined, bad);
  }
});

t.test('durations need a unit', async (t) => {
  for (const [text, expected] of [
    ['500ms', 500],
    ['5s', 5000],
    ['1.5m', 90_000],
    ['1h', 3_600_000],
    ['1d', 86_400_000],
    ['0s', 0],
  ] as const) {
    t.equal(parseDuration(text), expected, text);
  }
  for (const bad of ['', '5', '5 min', '-5s', 's', '5S', '1m30s', '5valueOf', '999999999999d'])
    t.equal(parseDuration(bad), undefined, bad);
});

t.test('every text is a whole number of units, or none', async (t) => {
  const odd = fc
    .tuple(
      fc.oneof(fc.double(), fc.nat()),
      fc.constantFrom(
        '',
        'B',
        'KiB',
        'TiB',
        's',
        'ms',
        'd',
        ' h',
        'constructor',
        '__proto__',
        'hasOwnProperty',
      ),
    )
    .map((parts) => parts.join(''));
  const isWhole = (value: number | undefined): boolean =>
    value === undefined || (Number.isSafeInteger(value) && value >= 0);
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), odd),
      (text) => isWhole(parseBytes(text)) && isWhole(parseDuration(text)),
    ),
    { numRuns: 5000 },
  );
  t.pass('held');
});

t.test('a value out of its bounds is told them, and why', async (t) => {
  const schema = z.strictObject({
    rate: bytes({ least: '1KiB', most: '1GiB', orZero: true }).optional(),
    room: bytes({ least: '1MiB' }).optional(),
    every: duration({ least: '1s', most: '24d', because: 'others wait no longer' }).optional(),
    first: duration({ least: '10ms', most: '1h', orZero: true }).optional(),
  });
  for (const good of [
    { rate: 0, room: '1MiB', every: '1s' },
    { rate: '1KiB', room: '8TiB', every: '24d' },
    { rate: '1GiB', room: 2 ** 20, every: '1.5s' },
  ])
    t.ok(checkConfig(JSON.stringify(good), 'f', schema));
  for (const [bad, message] of [
    [{ rate: 1023 }, /^f: rate: is 0 or at least 1KiB, not 1023$/],
    [{ rate: '2GiB' }, /^f: rate: is at most 1GiB, not 2GiB$/],
    [{ room: '1KiB' }, /^f: room: is at least 1MiB, not 1KiB$/],
    [{ first: '1ms' }, /^f: first: is 0s or at least 10ms, not 1ms$/],
    [{ first: 0 }, /^f: first: "0" is not a duration; write 500ms/],
    [{ every: '0s' }, /^f: every: is at least 1s, not 0s: others wait no longer$/],
    [{ every: '25d' }, /^f: every: is at most 24d, not 25d: others wait no longer$/],
  ] as const)
    t.throws(() => checkConfig(JSON.stringify(bad), 'f', schema), { code: 'CONFIG_INVALID', message });
  t.throws(() => duration({ least: '2s', most: '1s' }), TypeError);
  t.throws(() => bytes({ least: '1s' }), TypeError);
});

t.test('base URLs', async (t) => {
  for (const good of [
    'http://a',
    'https://harbor.example.com',
    'https://harbor.example.com:8443/',
    'http://[::1]:80',
    'http://127.0.0.1:17000',
  ])
    t.ok(isBaseUrl(good), good);
  for (const bad of [
    '',
    'harbor.example.com',
    'ftp://a',
    'file:///x',
    'https://a/path',
    'https://a/?q',
    'https://a/#f',
    'https://u@a',
    'https://u:p@a',
    'https://:p@a',
    'https://',
    'javascript:1',
    'https://a?',
    'https://a/#',
    'https://@a/?',
    ' https://a',
    'https://a\n',
  ])
    t.notOk(isBaseUrl(bad), bad);
});

t.test('a bad value names its key and says what is right', async (t) => {
  const schema = z.strictObject({
    cache: z.strictObject({ budget: bytes({ least: '0B' }), age: duration({ least: '0s', most: '1d' }) }),
    listen: hostPort(),
    url: baseUrl(),
    file: pathText(),
  });
  const good = { cache: { budget: '1GiB', age: '5s' }, listen: '127.0.0.1:1', url: 'http://a', file: 'f' };
  t.same(checkConfig(JSON.stringify(good), 'f.yaml', schema), {
    ...good,
    cache: { budget: 2 ** 30, age: 5000 },
  });
  t.equal(
    checkConfig(JSON.stringify({ ...good, cache: { budget: 77, age: '5s' } }), 'f.yaml', schema).cache.budget,
    77,
  );
  const cases: [object, RegExp][] = [
    [
      { cache: { budget: '1 gig', age: '5s' } },
      /^f\.yaml: cache\.budget: "1 gig" is not a size; write 512MiB/,
    ],
    [{ cache: { budget: -1, age: '5s' } }, /cache\.budget/],
    [{ cache: { budget: 1.5, age: '5s' } }, /cache\.budget: is not a size; write 512MiB/],
    [{ cache: { budget: true, age: '5s' } }, /cache\.budget: is not a size/],
    [{ cache: { budget: null, age: '5s' } }, /cache\.budget: is not a size/],
    [{ cache: { budget: 1, age: ['5s'] } }, /cache\.age: is not a duration; write 500ms/],
    [{ file: '' }, /file: is empty; write the path/],
    [{ cache: { budget: 1, age: 5 } }, /cache\.age: "5" is not a duration; write 500ms/],
    [{ cache: { budget: 1, age: '5' } }, /cache\.age/],
    [{ cache: { budget: 1 } }, /cache\.age/],
    [{ listen: '17000' }, /listen: "17000" is not host:port/],
    [{ url: 'harbor' }, /url: "harbor" is not an http\(s\) URL/],
    [{ url: 'https://user:p@ss@harbor' }, /url: "https:\/\/…@harbor" is not an http\(s\) URL/],
    [{ url: 'user:p/ss@harbor' }, /url: "…@harbor" is not an http\(s\) URL/],
  ];
  for (const [change, message] of cases) {
    t.throws(
      () => checkConfig(JSON.stringify({ ...good, ...change }), 'f.yaml', schema),
      { code: 'CONFIG_INVALID', message },
      String(message),
    );
  }
});
