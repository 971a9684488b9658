"""Answer what somebody asks who looks through a whole run: lists, effects of one example, verdicts, comparisons."""
