"""The command within this process."""

from click.testing import CliRunner, Result

from deepclust.cli import main


def deepclust(*arguments, code=0) -> Result:
    """What ``deepclust ARGUMENTS`` says; it shows no traceback and ends with this code."""
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == code, result.output
    return result
