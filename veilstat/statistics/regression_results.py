"""Results of regressions, with the names and conventions of statsmodels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from veilstat.errors import SchemaError

from .columns import check_number
from .design import Design
from .distributions import chi2_tail, f_tail, t_quantile, two_sided_t
from .results import Result
from .table import Summary, Table, label, number


def log_likelihood(n: int, rss: float | None) -> float | None:
    """Gaussian log-likelihood at the estimates, -n/2 (log(2 pi rss / n) + 1)."""
    return None if not rss else -n / 2 * (math.log(2 * math.pi * rss / n) + 1)


@dataclass(frozen=True, slots=True)
class Test:
    """A test of hypotheses: its statistic, p-value and degrees of freedom (``df_denom`` None for chi-squared)."""

    statistic: float
    pvalue: float
    df_num: float
    df_denom: float | None

    def __str__(self) -> str:
        name = f"F({self.df_num:g}, {self.df_denom:g})" if self.df_denom is not None else f"chi2({self.df_num:g})"
        return f"{name} = {number(self.statistic)}, p = {number(self.pvalue)}"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RegressionResult(Result):
    """What all regressions have. ``variances`` (of the coefficients) and ``covariance`` are None where they were not
    opened; so is all that follows from them.

    ``use_t`` says whether tests use Student's t.
    """

    use_t: ClassVar[bool]
    design: Design
    variances: npt.NDArray[np.float64] | None = None
    covariance: npt.NDArray[np.float64] | None = None
    llf: float | None
    history: pd.DataFrame | None = None
    iterations: int | None = None
    converged: bool = True

    @property
    def params(self) -> pd.Series:
        """Coefficients by term."""
        coefficients: pd.Series = self.estimate
        return coefficients

    @property
    def has_constant(self) -> bool:
        """Whether the columns span the constant."""
        return self.design.constant is not None

    @property
    def df_model(self) -> int:
        """Degrees of freedom of the model, without the constant."""
        return len(self.design.columns) - self.has_constant

    @property
    def df_resid(self) -> int:
        """Residual degrees of freedom."""
        return self.nobs - len(self.design.columns)

    @property
    def bse(self) -> pd.Series | None:
        """Standard errors."""
        return None if self.variances is None else pd.Series(np.sqrt(self.variances), index=self.params.index)

    @property
    def tvalues(self) -> pd.Series | None:
        """Coefficients over standard errors."""
        return None if self.bse is None else self.params / self.bse

    @property
    def pvalues(self) -> pd.Series | None:
        """Two-sided p-values."""
        return None if self.tvalues is None else pd.Series(two_sided_t(self.tvalues, self._freedom), index=self.params.index)

    @property
    def _freedom(self) -> float:
        return float(self.df_resid) if self.use_t else math.inf

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame | None:
        """Intervals by term, columns 0 and 1 as statsmodels."""
        check_number("alpha", alpha, 0, 1)
        if self.bse is None:
            return None
        half = t_quantile(1 - alpha / 2, self._freedom) * self.bse
        return pd.DataFrame({0: self.params - half, 1: self.params + half})

    def cov_params(self) -> pd.DataFrame | None:
        """Covariance matrix of the coefficients."""
        if self.covariance is None:
            return None
        return pd.DataFrame(self.covariance, index=self.params.index, columns=self.params.index)

    @property
    def nobs(self) -> int:
        """Rows that entered."""
        return int(self.n)

    @property
    def aic(self) -> float | None:
        """-2 llf + 2 (number of coefficients)."""
        return None if self.llf is None else -2 * self.llf + 2 * len(self.params)

    @property
    def bic(self) -> float | None:
        """-2 llf + log(n) (number of coefficients)."""
        return None if self.llf is None else -2 * self.llf + math.log(self.nobs) * len(self.params)

    def wald_test(self, hypothesis: str | Sequence[str] | Any, use_f: bool | None = None) -> Test | None:
        """Test that coefficients are zero (a term, or several), or that R b = 0 for a matrix R.

        Raises:
            SchemaError: an unknown term, a matrix of the wrong shape, or restrictions that follow from one another.
        """
        restriction = self._restriction(hypothesis)
        if self.covariance is None or not self.covariance.any():
            return None
        value = restriction @ self.params.to_numpy()
        middle = restriction @ self.covariance @ restriction.T
        chi2 = float(value @ np.linalg.solve(middle, value))
        count = len(restriction)
        if self.use_t if use_f is None else use_f:
            return Test(chi2 / count, f_tail(chi2 / count, count, self.df_resid), count, self.df_resid)
        return Test(chi2, chi2_tail(chi2, count), count, None)

    def to_frame(self) -> pd.DataFrame:
        frame = pd.DataFrame({"coef": self.params})
        if self.bse is not None:
            interval = self.conf_int()
            assert interval is not None
            frame = frame.assign(std_err=self.bse, t=self.tvalues, p=self.pvalues, lower=interval[0], upper=interval[1])
        return frame

    def _restriction(self, hypothesis: Any) -> npt.NDArray[np.float64]:
        names = list(self.params.index)
        terms = [hypothesis] if isinstance(hypothesis, str) else hypothesis
        if isinstance(terms, Iterable) and (listed := list(terms)) and all(isinstance(entry, str) for entry in listed):
            unknown = [entry for entry in listed if entry not in names]
            if unknown:
                raise SchemaError(f"there is no term {unknown[0]!r}; there are: {', '.join(names)}", code="unknown_term")
            hypothesis = np.eye(len(names))[[names.index(entry) for entry in listed]]
        try:
            matrix = np.atleast_2d(np.asarray(hypothesis, dtype=np.float64))
        except (TypeError, ValueError, OverflowError):
            matrix = np.zeros((0, 0))
        if matrix.ndim != 2 or matrix.shape[1] != len(names) or not np.isfinite(matrix).all():
            raise SchemaError(
                f"a hypothesis must be a term, several, or a matrix with one column for each of {len(names)} terms", code="bad_restriction"
            )
        if not len(matrix) or np.linalg.matrix_rank(matrix) < len(matrix):
            raise SchemaError(
                "one restriction of the hypothesis follows from the others, or there is none; name each once", code="bad_restriction"
            )
        return matrix

    def _coefficients(self) -> Table:
        letter = "t" if self.use_t else "z"
        frame = self.to_frame()
        header = ["", "coef", *(["std err", letter, f"P>|{letter}|", "[0.025", "0.975]"] if self.bse is not None else [])]
        rows = []
        for term, values in zip(frame.index, frame.itertuples(index=False, name=None), strict=True):
            cells = [number(float(value)) for value in values]
            if len(cells) > 3:
                cells[2], cells[3] = f"{values[2]:.3f}", f"{values[3]:.3f}"
            rows.append([label(term), *cells])
        return Table("", header, rows, self.notes())

    def _facts(self) -> list[tuple[str, str]]:
        facts = [
            ("Response", self.design.response.name),
            ("Rows", f"{self.nobs:,}"),
            ("Rows left out (missing)", "" if self.n_missing is None else f"{int(self.n_missing):,}"),
        ]
        facts += [("Df residuals", f"{self.df_resid:,}"), ("Df model", f"{self.df_model:,}")]
        facts += [("Log-likelihood", number(self.llf)), ("AIC", number(self.aic)), ("BIC", number(self.bic))]
        if self.iterations is not None:
            facts += [("Iterations", f"{self.iterations:,}"), ("Converged", "yes" if self.converged else "no")]
        return facts

    def summary(self) -> Summary:
        facts = [(label, value) for label, value in self._facts() if value]
        half = (len(facts) + 1) // 2
        padded = [*facts, ("", "")] if len(facts) % 2 else facts
        rows = [[*padded[place], "  " + padded[place + half][0], padded[place + half][1]] for place in range(half)]
        return Summary((Table(self.title, ["", "", "", ""], rows), self._coefficients()))

    def notes(self) -> tuple[str, ...]:
        lines = super().notes()[1:]
        if self.variances is None:
            lines = (*lines, "no standard errors: nothing that they could be computed from was opened")
        return lines


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LinearResult(RegressionResult):
    """Least squares. Sums of squares are None where they were not opened."""

    use_t: ClassVar[bool] = True
    rss: float | None
    tss: float | None

    @property
    def scale(self) -> float | None:
        """Residual variance, rss / df_resid."""
        return self.rss / self.df_resid if self.rss is not None and self.df_resid > 0 else None

    @property
    def rsquared(self) -> float | None:
        """1 - rss / tss; uncentred where the model has no constant. None where the response does not vary."""
        return 1 - self.rss / self.tss if self.rss is not None and self.tss else None

    @property
    def rsquared_adj(self) -> float | None:
        """R^2 adjusted for degrees of freedom."""
        if self.rsquared is None or self.df_resid <= 0:
            return None
        return 1 - (self.nobs - self.has_constant) / self.df_resid * (1 - self.rsquared)

    @property
    def fvalue(self) -> float | None:
        """F of the model against the constant, or against zero without one."""
        if self.scale is None or self.tss is None or self.rss is None or self.df_model == 0 or self.scale == 0:
            return None
        return (self.tss - self.rss) / self.df_model / self.scale

    @property
    def f_pvalue(self) -> float | None:
        """P(F > fvalue)."""
        return None if self.fvalue is None else f_tail(self.fvalue, self.df_model, self.df_resid)

    def predict(self, frame: pd.DataFrame) -> pd.Series:
        """Predictions for new observations, in units; NaN where a value is missing."""
        return pd.Series(self.design.matrix(frame) @ self.params.to_numpy(), index=frame.index)

    def compare_f_test(self, restricted: LinearResult) -> tuple[float, float, int] | None:
        """(F, p, difference in degrees of freedom) of a nested model against this one, over the same rows.

        Raises:
            SchemaError: the models are not nested, or were fitted to different rows.
        """
        if not isinstance(restricted, LinearResult):
            raise SchemaError(
                f"the restricted model must be a linear regression's result, not {type(restricted).__name__}", code="wrong_type"
            )
        difference = restricted.df_resid - self.df_resid
        nested = restricted.design.response == self.design.response and set(restricted.params.index) < set(self.params.index)
        if not nested or restricted.nobs != self.nobs:
            raise SchemaError(
                "an F test compares a nested model with fewer terms, of the same response over the same rows", code="not_nested"
            )
        if self.rss is None or restricted.rss is None or not self.scale:
            return None
        value = (restricted.rss - self.rss) / difference / self.scale
        return value, f_tail(value, difference, self.df_resid), difference

    def _facts(self) -> list[tuple[str, str]]:
        extra = [("R-squared", number(self.rsquared)), ("Adj. R-squared", number(self.rsquared_adj))]
        extra += [("F-statistic", number(self.fvalue)), ("Prob (F)", number(self.f_pvalue))]
        return [*super()._facts(), *extra]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LogisticResult(RegressionResult):
    """Logistic regression; ``llnull`` is the log-likelihood of the constant alone."""

    use_t: ClassVar[bool] = False
    llnull: float | None

    @property
    def prsquared(self) -> float | None:
        """McFadden's pseudo R^2, 1 - llf / llnull."""
        return 1 - self.llf / self.llnull if self.llf is not None and self.llnull else None

    @property
    def llr(self) -> float | None:
        """Likelihood ratio against the constant alone."""
        return None if self.llf is None or self.llnull is None else 2 * (self.llf - self.llnull)

    @property
    def llr_pvalue(self) -> float | None:
        """P(chi^2 > llr)."""
        return None if self.llr is None or not self.df_model else chi2_tail(self.llr, self.df_model)

    def predict(self, frame: pd.DataFrame) -> pd.Series:
        """Predicted probabilities for new observations."""
        linear = self.design.matrix(frame) @ self.params.to_numpy()
        with np.errstate(over="ignore"):
            return pd.Series(1 / (1 + np.exp(-linear)), index=frame.index)

    def _facts(self) -> list[tuple[str, str]]:
        extra = [("Pseudo R-squared", number(self.prsquared)), ("LL-null", number(self.llnull)), ("LLR p-value", number(self.llr_pvalue))]
        return [*super()._facts(), *extra]
