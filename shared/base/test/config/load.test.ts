import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { z } from 'zod';
import { besideConfig, checkConfig, loadConfig, readClusterKey } from '../../src/config/load.ts';
import { CACHE_KEYS, COMMON_KEYS } from '../../src/config/member-keys.ts';
import { CodedError } from '../../src/errors.ts';

const SCHEMA = z.strictObject({ ...COMMON_KEYS, cache: CACHE_KEYS });
const GOOD = 'data: ./d\ncluster-key-file: key\ncluster-document: cluster.yaml\nadmin-listen: 127.0.0.1:0\n';

t.test('a file with defaults filled in, frozen', async (t) => {
  const dir = t.testdir({ 'agent.yaml': GOOD });
  const config = loadConfig(join(dir, 'agent.yaml'), SCHEMA);
  t.match(config, {
    data: './d',
    log: { level: 'info' },
    cache: { budget: 50 * 2 ** 30, high: 0.95, low: 0.85 },
  });
  t.ok(Object.isFrozen(config));
});

t.test('everything that is wrong is named, in one line, with the file', async (t) => {
  const cases: [string, RegExp][] = [
    [`${GOOD}colour: red\n`, /^f: unknown key colour; see docs\/config\.md for the keys$/],
    [`${GOOD}log: {levle: debug}\n`, /^f: unknown key log\.levle \(log\.level\?\); see/],
    [`${GOOD}log: {level: loud}\n`, /^f: log\.level: "loud" is not one of trace, debug, info, /],
    [`${GOOD}log: {level: [loud]}\n`, /^f: log\.level: Invalid option: expected one of/],
    [
      `${GOOD.replace('data: ./d\n', '')}listen: x\n`,
      /^f: unknown key listen; data: is missing \(string\); see docs\/config\.md for the keys$/,
    ],
    [GOOD.replace('data: ./d\n', ''), /^f: data: is missing/],
    [`${GOOD}cache: {budget: lots}\n`, /^f: cache\.budget: "lots" is not a size/],
    [`${GOOD}cache: {high: 0.5, low: 0.9}\n`, /^f: cache\.low: low must be below high/],
    [`${GOOD}id: Not_An_Id\n`, /^f: id: is not an id/],
    [`${GOOD}zone: ''\n`, /^f: zone: is empty or begins with a space; write the name of a zone/],
    [`${GOOD}zone: ' a'\n`, /^f: zone: is empty or begins with a space/],
    [`${GOOD}zone: 'a '\n`, /^f: zone: ends with a space$/],
    [`${GOOD}data: ./twice\n`, /^f: line 5: key data stands twice$/],
    [`${GOOD}log: {level: info, level: warn}\n`, /^f: line 5: key level stands twice$/],
    [`${GOOD}"log":\n  level: info\n  "level": warn\n`, /^f: line 7: key level stands twice$/],
    [`${GOOD}x:\n  - name: a\n    name: b\n`, /^f: line 7: key name stands twice$/],
    [`${GOOD}log:\n\tlevel: info\n`, /^f: line 6, key level: a tab stands before it; indent by spaces$/],
    [`${GOOD}log:\n  level: info\n \tx: 1\n`, /^f: line 7, key x: a tab stands before it/],
    [`${GOOD}log:\n  level: info\n   x: 1\n`, /^f: line 6, key level: Nested mappings are not allowed/],
    [GOOD.replace('./d', '5'), /^f: data: expected string, received number$/],
    [`${GOOD}log: 7\n`, /^f: log: expected object, received number$/],
    ['', /^f: data: is missing.*; cluster-key-file: is missing/],
    [
      'dta: ./d\ncache: {low: 2, hgih: 1}\nlog: {level: loud}\nzone: 7\n',
      /^f: unknown key cache\.hgih \(cache\.high\?\); .*unknown key dta \(data\?\); data: is missing.*key-file.*document.*admin.*zone.*log\.level.*cache\.low/,
    ],
    [`${GOOD}log:\n`, /^f: log: is empty \(object\); write something, or leave the key out$/],
    [`${GOOD}id: ~\n`, /^f: id: is empty \(string\)/],
    [`${GOOD}x: [**]\n`, /^f: line 5, key x: \*\* means an anchor, and there is none; put it in quotes$/],
    [`${GOOD}x:\n  - *.a\n`, /^f: line 6: \*\.a means an anchor, and there is none; put it in quotes$/],
    [`${GOOD}x: {who: [*, a]}\n`, /^f: line 5, key x: Alias cannot be an empty string; put it in quotes$/],
    [`${GOOD}x: @a\n`, /^f: line 5, key x: Plain value cannot start with .*; put it in quotes$/],
    [`${GOOD}---\nx: 1\n`, /^f: line 5: a second document begins; a file holds one$/],
    ['- a\n- b\n', /^f: holds no keys; write lines of the form KEY: VALUE/],
    ['just text', /^f: holds no keys; write lines of the form KEY: VALUE/],
    ['a: [1,', /^f: /],
    ['a: \u0000', /^f: /],
  ];
  for (const [text, message] of cases) {
    t.throws(() => checkConfig(text, 'f', SCHEMA), { code: 'CONFIG_INVALID', message }, String(message));
    t.throws(() => checkConfig(text, 'f', SCHEMA), { message: /^[^\n]+$/ }, 'one line');
  }
});

t.test('faults without end are counted', async (t) => {
  const strange = Array.from({ length: 50 }, (_, index) => `x${index}: 1`).join('\n');
  const counted = /^f: unknown key x0, .*x19 and 30 more; see docs\/config\.md for the keys$/;
  t.throws(() => checkConfig(`${GOOD}${strange}\n`, 'f', SCHEMA), { message: counted });
  const list = z.strictObject({ ports: z.array(z.number()) });
  const text = `ports: [${Array(100).fill('x').join(', ')}]`;
  t.throws(() => checkConfig(text, 'f', list), { message: /^f: ports\.0: .*ports\.19: [^;]*; and 80 more$/ });
});

t.test('a file that cannot be read says why', async (t) => {
  const dir = t.testdir({});
  t.throws(() => loadConfig(join(dir, 'gone.yaml'), SCHEMA), {
    code: 'CONFIG_INVALID',
    message: /gone\.yaml: cannot be read \(ENOENT\)/,
  });
  t.throws(() => loadConfig(dir, SCHEMA), { code: 'CONFIG_INVALID', message: /cannot be read \(EISDIR\)/ });
});

t.test('aliases cannot blow up', async (t) => {
  const bomb = [
    'a0: &a0 [x,x,x,x,x,x,x,x,x]',
    ...Array.from({ length: 9 }, (_, n) => `a${n + 1}: &a${n + 1} [${Array(9).fill(`*a${n}`).join(',')}]`),
  ].join('\n');
  const began = performance.now();
  t.throws(() => checkConfig(bomb, 'f', SCHEMA), { code: 'CONFIG_INVALID' });
  t.ok(performance.now() - began < 20_000, 'all that they name would never end');
});

t.test('the cluster key is 64 hex characters', async (t) => {
  const key = 'ab'.repeat(32);
  const dir = t.testdir({
    good: `${key}\n`,
    upper: key.toUpperCase(),
    short: key.slice(1),
    odd: `${key.slice(2)}zz`,
    empty: '',
  });
  for (const name of ['good', 'upper', 'short', 'odd', 'empty']) chmodSync(join(dir, name), 0o640);
  t.same(Buffer.from(readClusterKey(join(dir, 'good'))).toString('hex'), key);
  t.same(Buffer.from(readClusterKey(join(dir, 'upper'))).toString('hex'), key);
  for (const bad of ['short', 'odd', 'empty']) {
    const error = (() => {
      try {
        return readClusterKey(join(dir, bad));
      } catch (thrown) {
        return thrown as CodedError;
      }
    })();
    t.match(
      error,
      { code: 'CONFIG_INVALID', message: /cluster-key-file: .* must hold 64 hex characters; make one with/ },
      bad,
    );
    t.notMatch((error as CodedError).message, /abab/, 'the key is not shown');
  }
  for (const mode of [0o644, 0o604, 0o666]) {
    chmodSync(join(dir, 'good'), mode);
    t.throws(() => readClusterKey(join(dir, 'good')), {
      code: 'CONFIG_INVALID',
      message: /^cluster-key-file: .* can be read by everybody on this machine; run: chmod o= /,
    });
  }
  const zeros = t.testdir({ key: `${'0'.repeat(64)}\n` });
  t.throws(() => readClusterKey(join(zeros, 'key')), { code: 'CONFIG_INVALID', message: /zeros only/ });
  t.throws(() => readClusterKey(join(dir, 'gone'), 'my-key'), {
    code: 'CONFIG_INVALID',
    message: /^my-key: .*ENOENT/,
  });
});

t.test('paths are relative to the config file', async (t) => {
  t.equal(besideConfig('/etc/sepia/agent.yaml', 'key'), '/etc/sepia/key');
  t.equal(besideConfig('/etc/sepia/agent.yaml', '/run/key'), '/run/key');
});

t.test('any text is a config or CONFIG_INVALID', async (t) => {
  const yaml = fc
    .array(
      fc.constantFrom(
        'data',
        ': ',
        '\n',
        '- ',
        '{',
        '}',
        '[',
        '*a',
        '&a ',
        '"',
        "'",
        '|',
        '!!js/function ',
        '<<',
        '? ',
        '1GiB',
        '~',
        '#',
        '\t',
        '%',
      ),
      { maxLength: 25 },
    )
    .map((parts) => parts.join(''));
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        yaml,
        fc.jsonValue().map((value) => JSON.stringify(value)),
      ),
      (text) => {
        try {
          checkConfig(text, 'f', SCHEMA);
          return false;
        } catch (error) {
          return error instanceof CodedError && error.code === 'CONFIG_INVALID';
        }
      },
    ),
    { numRuns: 2000, interruptAfterTimeLimit: 10_000, markInterruptAsFailure: false },
  );
  t.pass('held');
});
