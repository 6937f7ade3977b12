import { runBench } from '../support/run.ts';
import { sceneOptions, swarmScene } from '../support/swarm-scene.ts';

await runBench({
  id: 'n16-n18-streams',
  claim:
    'N16: 8 agents, 256 MiB: last ≤ 1.06 × limit warm, ≤ 1.10 cold; origin ≤ 1.10 copies; ≤ 7.5 CPU-s per GiB delivered. N18, warm: half of each stream after ≤ 0.60 of its time, no silence > 0.5 s',
  options: sceneOptions(256),
  run: swarmScene,
});
