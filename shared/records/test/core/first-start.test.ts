import t from 'tap';
import { type FirstStart, type FirstStartAnswer, firstStartStep } from '../../src/core/first-start.ts';
import { type Explorable, everyState } from '../model/explore.ts';

const IDS = [0, 1, 2];

/** Three origins that start for the first time; messages are answered in one step. One disk may be lost. */
class FirstStartModel implements Explorable {
  bad = '';
  answered = 0;
  #disks: FirstStart[] = ['new', 'new', 'new'];
  /** What each heard of the others since it started. */
  #heard: FirstStartAnswer[][] = IDS.map(() => IDS.map(() => 'silent'));
  #handed = IDS.map(() => new Set<number>());
  #holds = [false, false, false];
  #pushed = false;
  #lost: boolean;
  readonly dead: number | undefined;
  readonly opensAtOnce: boolean;

  constructor(options: { dead?: number; mayLose: boolean; opensAtOnce?: boolean }) {
    this.dead = options.dead;
    this.#lost = !options.mayLose;
    this.opensAtOnce = options.opensAtOnce ?? false;
  }

  clone(): FirstStartModel {
    const other = new FirstStartModel({
      ...(this.dead === undefined ? {} : { dead: this.dead }),
      mayLose: !this.#lost,
      opensAtOnce: this.opensAtOnce,
    });
    other.bad = this.bad;
    other.#disks = [...this.#disks];
    other.#heard = this.#heard.map((row) => [...row]);
    other.#handed = this.#handed.map((one) => new Set(one));
    other.#holds = [...this.#holds];
    other.#pushed = this.#pushed;
    return other;
  }

  hash(): string {
    return JSON.stringify([
      this.#disks,
      this.#heard,
      this.#handed.map((one) => [...one].sort()),
      this.#holds,
      this.#pushed,
      this.#lost,
    ]);
  }

  get isOpen(): boolean {
    return IDS.filter((id) => id !== this.dead).every((id) => this.#disks[id] === 'member');
  }

  actions(): [string, () => void, number][] {
    const out: [string, () => void, number][] = [];
    const members = IDS.filter((id) => this.#disks[id] === 'member');
    for (const id of IDS) {
      const own = this.#disks[id]!;
      if (own === 'member' || id === this.dead) continue;
      const others = IDS.filter((other) => other !== id);
      for (const other of others)
        if (other !== this.dead && this.#heard[id]![other] !== this.#disks[other])
          out.push([
            `${id} hears ${other}`,
            () => {
              this.#heard[id]![other] = this.#disks[other]!;
            },
            1,
          ]);
      const step = firstStartStep(
        own,
        others.map((other) => this.#heard[id]![other]!),
      );
      if (step === 'note')
        out.push([
          `${id} notes`,
          () => {
            this.#disks[id] = this.opensAtOnce ? 'member' : 'noted';
          },
          1,
        ]);
      if (step === 'open')
        out.push([
          `${id} opens`,
          () => {
            this.#disks[id] = 'member';
          },
          1,
        ]);
      if (step === 'handover')
        for (const other of others)
          if (this.#disks[other] === 'member' && !this.#handed[id]!.has(other))
            out.push([
              `${other} hands over to ${id}`,
              () => {
                this.#handed[id]!.add(other);
                this.#holds[id] ||= this.#holds[other]!;
                if (this.#handed[id]!.size === others.length) this.#disks[id] = 'member';
              },
              1,
            ]);
    }
    if (members.length >= 2 && !this.#pushed)
      out.push([
        'a push is acknowledged',
        () => {
          this.#pushed = true;
          for (const id of members.slice(0, 2)) this.#holds[id] = true;
        },
        1,
      ]);
    if (!this.#lost)
      for (const id of IDS)
        if (this.#disks[id] !== 'new')
          out.push([
            `${id} loses its disk`,
            () => {
              this.#lost = true;
              this.#disks[id] = 'new';
              this.#holds[id] = false;
              this.#heard[id] = IDS.map(() => 'silent');
              this.#handed[id] = new Set();
            },
            1,
          ]);
    return out;
  }

  check(): void {
    if (!this.#pushed) return;
    const members = IDS.filter((id) => this.#disks[id] === 'member');
    for (const a of members)
      for (const b of members)
        if (a < b && !this.#holds[a] && !this.#holds[b])
          this.bad ||= `${a} and ${b} decide, and neither has what was acknowledged`;
    if (this.actions().length === 0 && !this.isOpen) this.bad ||= 'stuck';
  }
}

t.test('three new origins become members in every order of events', async (t) => {
  const found = everyState(new FirstStartModel({ mayLose: false }), 100_000);
  t.match(found, { bad: '', whole: true });
  t.ok(found.states > 50, `${found.states} states`);
});

t.test('a disk lost at any moment loses nothing', async (t) => {
  t.match(everyState(new FirstStartModel({ mayLose: true }), 300_000), { bad: '', whole: true });
});

t.test('nobody opens while one has never been heard', async (t) => {
  const model = new FirstStartModel({ dead: 2, mayLose: false });
  t.match(everyState(model, 100_000), { bad: '', whole: true });
  t.equal(firstStartStep('new', ['new', 'silent']), 'wait');
  t.equal(firstStartStep('noted', ['noted', 'silent']), 'wait');
});

t.test(
  'without the note, an origin that lost its disk founds a second cluster or waits for ever',
  async (t) => {
    const found = everyState(new FirstStartModel({ mayLose: true, opensAtOnce: true }), 300_000);
    t.not(found.bad, '', 'is found');
  },
);
