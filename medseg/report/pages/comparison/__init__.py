"""The report of a comparison of methods.

Modules:
    page: the page.
    verdict: the verdict in words.
    methods: the content, as it is read from JSON.
    cases: pictures of the cases where methods differ.
"""
