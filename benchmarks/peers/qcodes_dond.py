"""QCoDeS `dond`: two parameters swept together and two measured per point."""

from qcodes.dataset import LinSweep, TogetherSweep, dond
from qcodes_parts import VERSION, Pair, fresh_database
from serve import serve


def main():
    pair = Pair("pair")

    def scan(n):
        sweep = TogetherSweep(LinSweep(pair.x, 0, 1, n), LinSweep(pair.y, 0, 1, n))
        dond(sweep, pair.a, pair.b, do_plot=False, show_progress=False)

    with fresh_database():
        serve(VERSION, scan)


if __name__ == "__main__":
    main()
