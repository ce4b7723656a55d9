"""Includes go one way: deferred <- reactor <- protocols <- examples, deferred/ on the standard library alone, and no file reaches itself."""
from tree import FOLDERS, INCLUDE, ROOT, conclude, includes, sources

problems = []
graph = {}
for path in sources(*FOLDERS):
    graph[path] = includes(path)
    allowed = FOLDERS[: FOLDERS.index(path.parts[0]) + 1]
    for name in graph[path]:
        if name.parts[0] not in allowed:
            problems.append(f"{path} includes {name}")
    if path.parts[0] == "deferred":
        for name in INCLUDE.findall((ROOT / path).read_text()):
            if "/" in name and not name.startswith(("deferred/", "sys/")):
                problems.append(f"{path} includes {name}: deferred/ needs the standard library alone")

done, open_path = set(), []


def visit(path):
    if path in open_path:
        problems.append("a cycle of includes: " + " -> ".join(map(str, open_path[open_path.index(path) :] + [path])))
    elif path not in done:
        open_path.append(path)
        for name in graph.get(path, []):
            visit(name)
        open_path.pop()
        done.add(path)


for path in graph:
    visit(path)
conclude(problems)
