import { createHash } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { LAYER_DEFAULTS, layerKey } from '../../src/convert/layer-job.ts';

t.test('what was made before whiteouts went first is not taken for what is made now', async (t) => {
  const layer = digestOf(Buffer.from('a layer'));
  const options = { ...LAYER_DEFAULTS, prioritized: ['d/file'] };
  const named = Object.entries(options).sort(([one], [other]) => (one < other ? -1 : 1));
  const before = createHash('sha256')
    .update(JSON.stringify([5, layer, named]))
    .digest('hex');
  t.not(layerKey(layer, options), before);
  t.equal(layerKey(layer, options), layerKey(layer, Object.fromEntries(named.toReversed()) as never));
});
