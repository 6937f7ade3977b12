import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { newsGapMs } from '../../../src/downloads/core/news-pace.ts';

t.test('what is short is not held up, what is long is told of in parts', async (t) => {
  t.equal(newsGapMs(0), 0);
  t.equal(newsGapMs(-1), 0, 'a clock that was set back');
  t.equal(newsGapMs(200), 10);
  t.equal(newsGapMs(60_000), 100);
  fc.assert(fc.property(fc.nat(100_000), (ms) => newsGapMs(ms) <= ms * 0.05));
});
