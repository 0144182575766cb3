"""Small programs that use the Rec SDK the way public programs do, each against an oracle without it."""
