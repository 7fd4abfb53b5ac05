"""Records to what people look at: pages, pictures, and tables for the terminal. No torch.

Nothing is imported here: a table in the terminal does not wait for what only a picture needs.
"""
