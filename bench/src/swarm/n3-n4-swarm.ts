import { runBench } from '../support/run.ts';
import { sceneOptions, swarmScene } from '../support/swarm-scene.ts';

await runBench({
  id: 'n3-n4-swarm',
  claim:
    'N3: warm origin, last ≤ 1.10 × limit, origin ≤ 1.3 copies; N4: cold, last ≤ 1.15 × limit, upstream 1.0 copies',
  options: sceneOptions(512),
  run: swarmScene,
});
