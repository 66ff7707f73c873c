"""Seeded damage to every format that comes in: nothing but `WorkbenchError` may leave a public
function.
"""
