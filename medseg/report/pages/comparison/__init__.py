"""The report of a comparison of methods.

Modules:
    page: the page.
    verdict, ranking: the verdict in words.
    values: how p values and shares are written.
    methods: the content, as it is read from JSON.
    cases: pictures of the cases where methods differ.
"""
