import sys, tempfile
from pathlib import Path
sys.path.insert(0, str(Path(__file__).resolve().parent))
import cases, compare
jobs = [{"kind": "layer", **c} for c in cases.all_cases() if len(sys.argv) < 2 or c["name"].startswith(sys.argv[1])]
with tempfile.TemporaryDirectory() as t:
    o = compare.run_original(jobs, Path(t) / "original")
    m = compare.run_ours(jobs, Path(t) / "ours")
rows = []
for j, a, b in zip(jobs, m, o):
    e, w = compare.worst(a, b)
    rows.append((e, j["name"], w))
for e, n, w in sorted(rows, reverse=True)[:60]:
    print(f"{e:9.2e}  {n:60s} {w}")
print(len(rows), "cases")
