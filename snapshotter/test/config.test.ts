import t from 'tap';
import { SNAPSHOTTER_CONFIG } from '../src/config.ts';

const LEAST = { data: 'data', 'admin-listen': '127.0.0.1:1', agent: 'http://127.0.0.1:2' };

t.test('what is filled: profile is another name of all', async (t) => {
  const filled = (fill?: string): unknown => SNAPSHOTTER_CONFIG.parse({ ...LEAST, fill }).fill;
  t.equal(filled(), 'by-size', 'images of less than 1 GiB');
  t.equal(filled('start'), 'start');
  t.equal(filled('all'), 'all');
  t.equal(filled('profile'), 'all');
  t.equal(filled('none'), 'none');
  t.throws(() => filled('some'));
});
