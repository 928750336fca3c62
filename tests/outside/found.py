"""What every checker does with what it finds: says it, and ends with it."""

import sys


class Findings:
    """Collects what is wrong; each item is named."""

    def __init__(self, checker):
        self.checker = checker
        self.wrong = []
        self.right = 0

    def expect(self, good, item, what):
        if good:
            self.right += 1
        else:
            self.wrong.append(item)
            print(f"WRONG {item}: {what}", file=sys.stderr)

    def end(self):
        if self.right + len(self.wrong) == 0:
            print(f"{self.checker}: nothing was there to check", file=sys.stderr)
            sys.exit(1)
        print(f"{self.checker}: {self.right} right, {len(self.wrong)} wrong")
        sys.exit(1 if self.wrong else 0)
