import t from 'tap';
import { SNAPSHOTTER_CONFIG } from '../src/config.ts';

const LEAST = { data: 'data', 'admin-listen': '127.0.0.1:1', agent: 'http://127.0.0.1:2' };

t.test('what is filled: profile is another name of all', async (t) => {
  const filled = (fill?: string): unknown => SNAPSHOTTER_CONFIG.parse({ ...LEAST, fill }).fill;
  t.equal(filled(), 'all');
  t.equal(filled('profile'), 'all');
  t.equal(filled('none'), 'none');
  t.throws(() => filled('some'));
});
