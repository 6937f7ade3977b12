import t from 'tap';
import { FILES } from './sources.ts';

const HOME = 'test/support/src/seeded.ts';

/** Their default is another fixed number. */
const OTHERS = [
  'origin/test/core.test.ts',
  'sim/test/cold.test.ts',
  'sim/test/pushed.test.ts',
  'test/processes/clients/lazy-erofs.test.ts',
];

t.test(
  'a test draws by `SEED` of the test support, never by the clock or chance: a run that failed can be repeated',
  async (t) => {
    const tests = FILES.filter(({ path }) => /(?:^|\/)test\//.test(path) && path !== 'test/seeds.test.ts');
    t.ok(tests.length > 300, 'tests were found');
    const own = tests.filter(({ code }) => /env(?:\['SEED'\]|\.SEED\b)/.test(code)).map(({ path }) => path);
    t.same(own.sort(), [HOME, ...OTHERS].sort(), 'take SEED from @sepia/test-support/seeded');
    const byClock = tests.filter(
      ({ path, code }) =>
        path.endsWith('.test.ts') &&
        /seed[^\n]*\b(?:Date\.now|performance\.now|Math\.random|randomInt)\b/i.test(code),
    );
    t.same(
      byClock.map(({ path }) => path),
      [],
    );
  },
);
