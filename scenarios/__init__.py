"""The laboratory: stories about a cluster, played on it and checked.

main_job     takes in real files, loses every process at once, comes back, and has lost nothing
terminal     what a story needs to play on real processes, through the commands that a person would type
"""
