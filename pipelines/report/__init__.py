"""The report of a run: one page for the people who must trust it, a model card and the numbers behind both.

`facts` gathers what a run folder says into one dictionary; `page`, `card.py` and the JSON file are three views of it.
Nothing here loads a model or decodes an image: `pipelines.jobs.report` does.
"""
